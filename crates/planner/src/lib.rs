//! Says before a campaign whether it fits its quotas and when it is done.
//!
//! The calls are made to the engine itself, in simulated time: what it would have them wait for, they wait for here.
//! Nothing is sent, and nothing is read but what the caller gives.
//!
//! ```text
//!  ApiCampaign + accounts ─► campaign ─┬─► need        what is drawn of each limit, and how long that takes at least
//!                                      └─► simulation  when the last record is done
//!                                            └─► forecast
//! ```
//!
//! | room | holds |
//! |---|---|
//! | [`campaign`] | records, steps and loads as plain values |
//! | [`compile`] | an `ApiCampaign` and its quotas' accounts as a campaign |
//! | [`need`] | what a campaign draws, and what that takes by arithmetic alone |
//! | `simulation` | workers, engines and answers, one event after the other |
//! | `scale` | one simulated call for several, where there are millions |
//! | [`mod@forecast`] | whether it fits, when it ends, what holds it up |

pub mod campaign;
pub mod compile;
pub mod forecast;
pub mod need;
mod scale;
mod simulation;

pub use campaign::Campaign;
pub use forecast::{Forecast, forecast};
