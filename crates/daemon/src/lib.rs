//! The manager (HTTP, store, supervision) and the instance (sockets, clock, driver).
