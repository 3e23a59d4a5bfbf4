//! Interop scenarios.
