//! Between the pure types of `routeserver::delivery` and the agent protocol.
