//! Tracing set-up and the definitions of all metrics.
