//! The resources `ApiQuota` and `ApiProvider`: what a person writes, whether it is right, and what
//! the limiter and the proxies receive of it.
//!
//! ```text
//!  quota.yaml ─► load ─► yaml ─► structure ─► quota::rules ─► compile ─► CompiledAccount
//!                                    ▲             ▲
//!  types ──────► crds ───────────────┘   the same rules as CEL, in crds/*.yaml
//! ```
//!
//! | room | holds |
//! |---|---|
//! | [`quota`] | `ApiQuota`: types, rules between fields (CEL and Rust), status |
//! | [`provider`] | `ApiProvider`: a profile as a resource |
//! | [`campaign`] | `ApiCampaign`: records, deadline, and what each record calls |
//! | [`validate`] | is a quota acceptable? |
//! | [`load`] | quota files, without a cluster |
//! | [`structure`] | does a document fit its schema, in sentences |
//! | [`compile`] | a quota and its profile into what an engine enforces |
//! | [`crds`] | the generated CustomResourceDefinitions |
//! | [`names`] | labels, annotations and object names that all programs share |
//! | [`workload`] | the workload that a pod belongs to |
//! | [`words`] | amounts as people read them |
//! | [`mod@reference`] | every field as a page for people |
//! | [`yaml`] | the only room that knows a YAML library |
//! | `bounded` | Kubernetes' own types, with bounds |
//!
//! Pure but for reading files in `load`; no cluster, no runtime.

mod bounded;
pub mod campaign;
pub mod compile;
pub mod crds;
pub mod load;
pub mod names;
pub mod problem;
pub mod provider;
pub mod quota;
pub mod reference;
pub mod structure;
pub mod validate;
pub mod words;
pub mod workload;
pub mod yaml;
