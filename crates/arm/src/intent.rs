//! From resources to what an instance is to do.

use routeserver::Intent;

use crate::resource::Resources;
use crate::settings::Settings;

/// The whole intent; its version is that of the resources.
#[allow(clippy::todo)]
pub fn intent(_resources: &Resources, _settings: &Settings) -> Intent {
    todo!()
}
