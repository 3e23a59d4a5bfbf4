//! JSON as `az` sends it with a deployment: the key `template` unquoted, and the template file as it is, comments and all
//! (arm-clients §5).

use jsonc_parser::{ParseOptions, parse_to_serde_value};
use serde_json::Value;

/// Reads JSON that may have comments, unquoted keys and trailing commas; the parser bounds its depth. The error is for people.
pub fn read_loose_json(text: &str) -> Result<Value, String> {
    let options = ParseOptions {
        allow_comments: true,
        allow_loose_object_property_names: true,
        allow_trailing_commas: true,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    };
    parse_to_serde_value(text, &options).map_err(|error| error.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_az_sends_is_read() {
        let sent = r#"{"properties": {"mode": "Incremental", template:{ // a comment
            "resources": [/* none */],
        }}}"#;
        let read = read_loose_json(sent).unwrap();
        assert_eq!(
            read,
            json!({ "properties": { "mode": "Incremental", "template": { "resources": [] } } })
        );
    }

    #[test]
    fn other_things_are_refused_and_do_no_harm() {
        for text in ["{", "{a}", "{\"a\": +1}", "[1 2]", "{'a': 1}", &"[".repeat(100_000)] {
            assert!(read_loose_json(text).is_err());
        }
    }
}
