//! The routewright command.
fn main() {}
