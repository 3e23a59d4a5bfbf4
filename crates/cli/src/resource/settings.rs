//! `settings` verbs: what goes beyond Azure, kept apart from ARM bodies.

use clap::Subcommand;
use serde_json::{Map, Value, json};

use super::{Session, printed};
use crate::client::ClientError;
use crate::output;

/// NAME=VALUE; the value is JSON if it can be read as such, else text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Setting {
    name: String,
    value: Value,
}

/// Reads NAME=VALUE.
pub(crate) fn parse_setting(text: &str) -> Result<Setting, String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok(Setting {
            name: name.to_owned(),
            value: serde_json::from_str(value).unwrap_or_else(|_| json!(value)),
        }),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

/// What to do with settings.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum SettingsVerb {
    /// Show the settings that differ from Azure's behaviour.
    Show,
    /// Change some settings; NAME=null goes back to the default.
    Set {
        /// NAME=VALUE …
        #[arg(required = true, value_parser = parse_setting, value_name = "NAME=VALUE")]
        settings: Vec<Setting>,
    },
    /// Go back to the defaults.
    Reset,
}

/// Carries it out for an ARM id.
pub(crate) async fn run(session: &Session, id: &str, verb: SettingsVerb) -> Result<(), ClientError> {
    let path = format!("/routewright/v1{id}/settings");
    let result = match verb {
        SettingsVerb::Show => session.client.get(&path).await?,
        SettingsVerb::Set { settings } => {
            let patch: Map<String, Value> = settings
                .into_iter()
                .map(|setting| (setting.name, setting.value))
                .collect();
            session
                .client
                .send(reqwest::Method::PATCH, &path, Some(&Value::Object(patch)))
                .await?
        }
        SettingsVerb::Reset => {
            session.client.delete(&path).await?;
            return Ok(());
        }
    };
    printed(output::print_whole(session.target.output, &result))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_setting_is_json_or_else_text() {
        let value = |text: &str| parse_setting(text).unwrap().value;
        assert_eq!(value("holdTimeSecs=9"), json!(9));
        assert_eq!(value("md5Password=a=b"), json!("a=b"));
        assert_eq!(value("dial=false"), json!(false));
        assert_eq!(value("dial=null"), Value::Null);
        assert!(parse_setting("dial").is_err());
        assert!(parse_setting("=1").is_err());
    }
}
