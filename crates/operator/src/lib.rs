//! Reconciles quotas into the limiter configuration, and reports what it enforces.
