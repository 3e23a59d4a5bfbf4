//! The manager's control of an instance: JSON over HTTP on a Unix socket in the run directory (`instance-0.sock`, `instance-1.sock`).
//!
//! | method and path | body | answer |
//! |---|---|---|
//! | `PUT /intent` | [`routeserver::Intent`] | 204; 409 when the instance follows a newer version |
//! | `GET /health` | | [`routeserver::report::InstanceReport`] |
//! | `GET /peers[?routeServer=ID]` | | `[PeerReport]` |
//! | `POST /peers/reset?peer=ID&soft=bool` | | 204 |
//! | `GET /routes?peer=ID` or `?routeServer=ID[&prefix=P]` | | `[RouteReport]` |
//! | `GET /advertised?peer=ID` | | `[AdvertisedReport]` |
//! | `GET /effective-routes?nic=ID` | | `[EffectiveRoute]` |
//! | `GET /agents` | | `[AgentReport]` |
//! | `GET /metrics` | | Prometheus text, every series labelled `instance` |
//! | `POST /shutdown` | | 202; the instance says farewell to its peers and ends |
