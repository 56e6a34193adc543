//! Decides what an annotated pod gets, and serves that as an admission webhook.
