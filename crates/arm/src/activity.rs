//! The activity log (`Microsoft.Insights/eventtypes/management/values`): who changed or tried what, when, and what came of it. Here are
//! an event's shape, as Azure's published schema has it, and the `$filter` and `$select` that clients send; the store keeps the events.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::error::ArmError;

/// Characters of a text that somebody else wrote; the rest is cut off.
const MAX_TEXT: usize = 1024;
/// Clauses of a `$filter`. Azure's own clients send four.
const MAX_CLAUSES: usize = 16;

/// One thing that somebody asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// A GUID.
    pub id: String,
    /// RFC 3339, in UTC.
    pub timestamp: String,
    /// GUID of the subscription, in lower case.
    pub subscription: String,
    /// Object id of who asked; empty when nobody knows.
    pub caller: String,
    /// Client id of who asked.
    pub client_id: String,
    /// For example `Microsoft.Network/virtualHubs/write`.
    pub action: String,
    /// What it was done to.
    pub resource_id: String,
    /// HTTP method.
    pub method: String,
    /// Path of the request.
    pub path: String,
    /// The client's address, if it came over a network.
    pub client_address: Option<String>,
    /// What the client calls everything that belongs together.
    pub correlation_id: String,
    /// `x-ms-request-id` of the answer.
    pub request_id: String,
    /// HTTP status of the answer.
    pub status: u16,
    /// Code and message of the refusal.
    pub refusal: Option<(String, String)>,
    /// Refusals like this one that were too many to be kept.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub not_kept: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Event {
    /// The same event with what came of it. Texts of clients are cut to a bounded length.
    pub fn ended(mut self, status: u16, refusal: Option<&ArmError>) -> Event {
        self.status = status;
        self.refusal = refusal.map(|error| (error.code.clone(), cut(&error.message)));
        for text in [
            &mut self.subscription,
            &mut self.action,
            &mut self.resource_id,
            &mut self.method,
            &mut self.path,
            &mut self.correlation_id,
        ] {
            *text = cut(text);
        }
        self
    }

    /// As clients read it.
    pub fn shown(&self, tenant: &str) -> Value {
        let Event {
            id,
            resource_id,
            action,
            ..
        } = self;
        let (status, level) = match self.status {
            ..400 => ("Succeeded", "Informational"),
            _ => ("Failed", "Error"),
        };
        let mut properties = json!({ "statusCode": reason(self.status), "serviceRequestId": self.request_id });
        if let Some((code, message)) = &self.refusal {
            properties["statusMessage"] = json!({"error": {"code": code, "message": message}}).to_string().into();
        }
        if self.not_kept > 0 {
            properties["refusalsNotKept"] = self.not_kept.to_string().into();
        }
        json!({
            "authorization": {"action": action, "scope": resource_id},
            "caller": self.caller,
            "category": localized("Administrative"),
            "channels": "Operation",
            "claims": {"appid": self.client_id,
                "http://schemas.microsoft.com/identity/claims/objectidentifier": self.caller},
            "correlationId": self.correlation_id,
            "description": "",
            "eventDataId": id,
            "eventName": {"value": "EndRequest", "localizedValue": "End request"},
            "eventTimestamp": self.timestamp,
            "httpRequest": {"clientRequestId": self.correlation_id, "clientIpAddress": self.client_address,
                "method": self.method, "uri": self.path},
            "id": format!("{resource_id}/events/{id}"),
            "level": level,
            "operationId": self.correlation_id,
            "operationName": localized(action),
            "properties": properties,
            "resourceGroupName": self.resource_group(),
            "resourceId": resource_id,
            "resourceProviderName": localized(self.provider()),
            "resourceType": localized(action.rsplit_once('/').map_or(action, |(kind, _)| kind)),
            "status": localized(status),
            "subStatus": {"value": reason(self.status),
                "localizedValue": format!("{} (HTTP Status Code: {})", reason(self.status), self.status)},
            "submissionTimestamp": self.timestamp,
            "subscriptionId": self.subscription,
            "tenantId": tenant,
        })
    }

    fn resource_group(&self) -> &str {
        let mut segments = self.resource_id.split('/').skip(3);
        match segments.next() {
            Some(kind) if kind.eq_ignore_ascii_case("resourceGroups") => segments.next().unwrap_or_default(),
            _ => "",
        }
    }

    fn provider(&self) -> &str {
        self.action.split('/').next().unwrap_or_default()
    }
}

fn localized(text: &str) -> Value {
    json!({ "value": text, "localizedValue": text })
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}

/// The name of a status, as Azure's events have it.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "NoContent",
        400 => "BadRequest",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        405 => "MethodNotAllowed",
        408 => "RequestTimeout",
        409 => "Conflict",
        412 => "PreconditionFailed",
        413 => "RequestEntityTooLarge",
        429 => "TooManyRequests",
        500 => "InternalServerError",
        503 => "ServiceUnavailable",
        _ => "Other",
    }
}

/// Which events a client wants to see: clauses of `$filter`, all of which must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// `eventTimestamp ge`: as written.
    pub from: Option<String>,
    /// `eventTimestamp le`: as written.
    pub to: Option<String>,
    equal: Vec<(Property, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Property {
    ResourceGroup,
    Resource,
    Provider,
    CorrelationId,
    Caller,
    Status,
}

impl Filter {
    /// Reads a `$filter`: `eventTimestamp ge T and eventTimestamp le T and NAME eq 'TEXT'…`, times with quotation marks or without.
    pub fn parse(text: &str) -> Result<Filter, ArmError> {
        let mut filter = Filter::default();
        let clauses = clauses(text);
        if clauses.len() > MAX_CLAUSES {
            return Err(bad(format!("it has more than {MAX_CLAUSES} clauses")));
        }
        for clause in clauses.into_iter().filter(|clause| !clause.is_empty()) {
            let mut words = clause.splitn(3, char::is_whitespace);
            let (Some(name), Some(operator), Some(value)) = (words.next(), words.next(), words.next()) else {
                return Err(bad(format!("'{clause}' is not NAME OPERATOR VALUE")));
            };
            let value = unquoted(value);
            match (
                name.to_ascii_lowercase().as_str(),
                operator.to_ascii_lowercase().as_str(),
            ) {
                ("eventtimestamp", "ge") => filter.from = Some(value),
                ("eventtimestamp", "le") => filter.to = Some(value),
                // Every event here is of this channel.
                ("eventchannels" | "channels", "eq") => {}
                (name, "eq") => filter.equal.push((property(name, &clause)?, value)),
                _ => return Err(bad(format!("'{clause}' has an operator that is not supported"))),
            }
        }
        Ok(filter)
    }

    /// Whether an event is wanted, times aside.
    pub fn wants(&self, event: &Event) -> bool {
        self.equal.iter().all(|(property, wanted)| {
            let found = match property {
                Property::ResourceGroup => event.resource_group(),
                // What hangs below a resource is told with it.
                Property::Resource => return crate::authorization::covers(wanted, &event.resource_id),
                Property::Provider => event.provider(),
                Property::CorrelationId => &event.correlation_id,
                Property::Caller if event.client_id.eq_ignore_ascii_case(wanted) => return true,
                Property::Caller => &event.caller,
                Property::Status if event.status < 400 => "Succeeded",
                Property::Status => "Failed",
            };
            found.eq_ignore_ascii_case(wanted)
        })
    }
}

fn property(name: &str, clause: &str) -> Result<Property, ArmError> {
    Ok(match name {
        "resourcegroupname" => Property::ResourceGroup,
        "resourceid" | "resourceuri" => Property::Resource,
        "resourceprovider" => Property::Provider,
        "correlationid" => Property::CorrelationId,
        "caller" => Property::Caller,
        "status" => Property::Status,
        _ => return Err(bad(format!("'{clause}' names a property that is not supported"))),
    })
}

/// What stands between one `and` and the next that is not inside quotation marks.
fn clauses(text: &str) -> Vec<String> {
    let mut clauses = vec![String::new()];
    let mut is_quoted = false;
    for word in text.split_inclusive(char::is_whitespace) {
        if !is_quoted && word.trim().eq_ignore_ascii_case("and") {
            clauses.push(String::new());
            continue;
        }
        is_quoted ^= word.matches('\'').count() % 2 == 1;
        if let Some(clause) = clauses.last_mut() {
            clause.push_str(word);
        }
    }
    clauses.iter().map(|clause| clause.trim().to_owned()).collect()
}

/// OData: a quotation mark within a text is written twice.
fn unquoted(text: &str) -> String {
    let text = text.trim();
    match text.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) {
        Some(inner) => inner.replace("''", "'"),
        None => text.to_owned(),
    }
}

fn bad(why: String) -> ArmError {
    ArmError::new(
        400,
        "BadRequest",
        format!(
            "The $filter cannot be read: {why}. Use: eventTimestamp ge TIME and eventTimestamp le TIME and NAME eq 'TEXT', where NAME is \
             resourceGroupName, resourceId, resourceProvider, correlationId, caller or status."
        ),
    )
}

/// Keeps of a shown event what `$select` names (names compare without regard to case).
pub fn select(event: Value, names: &str) -> Value {
    let names: Vec<&str> = names
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .collect();
    match event {
        Value::Object(all) if !names.is_empty() => {
            let wanted = |name: &String| names.iter().any(|wanted| wanted.eq_ignore_ascii_case(name));
            Value::Object(all.into_iter().filter(|(name, _)| wanted(name)).collect::<Map<_, _>>())
        }
        event => event,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const HUB: &str = "/subscriptions/s/resourceGroups/Rg/providers/Microsoft.Network/virtualHubs/rs";

    fn event() -> Event {
        let event = Event {
            id: "e".into(),
            subscription: "s".into(),
            caller: "object".into(),
            client_id: "client".into(),
            action: "Microsoft.Network/virtualHubs/write".into(),
            resource_id: HUB.into(),
            correlation_id: "c".into(),
            ..Event::default()
        };
        event.ended(201, None)
    }

    #[test]
    fn what_az_sends_is_understood() {
        let text = "eventTimestamp ge 2026-11-21T02:00:00.123 and eventTimestamp le '2026-11-21T08:00:00Z' and resourceGroupName eq 'rg'";
        let filter = Filter::parse(text).unwrap();
        assert_eq!(filter.from.as_deref(), Some("2026-11-21T02:00:00.123"));
        assert_eq!(filter.to.as_deref(), Some("2026-11-21T08:00:00Z"));
        assert!(filter.wants(&event()));
    }

    #[test]
    fn each_property_keeps_what_it_names_and_nothing_else() {
        for (clause, expected) in [
            ("resourceGroupName eq 'RG'", true),
            ("resourceGroupName eq 'other'", false),
            (&format!("resourceId eq '{}'", HUB.to_lowercase()), true),
            ("resourceUri eq '/subscriptions/s/resourceGroups/rg'", true),
            ("resourceId eq '/subscriptions/s/resourceGroups/r'", false),
            ("resourceProvider eq 'microsoft.network'", true),
            ("resourceProvider eq 'Microsoft.Resources'", false),
            ("correlationId eq 'c'", true),
            ("correlationId eq 'd'", false),
            ("caller eq 'object'", true),
            ("caller eq 'CLIENT'", true),
            ("caller eq 'x and y'", false),
            ("status eq 'Succeeded'", true),
            ("status eq 'Failed'", false),
            ("caller eq 'object' and status eq 'Failed'", false),
            ("", true),
        ] {
            assert_eq!(Filter::parse(clause).unwrap().wants(&event()), expected, "{clause}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        let many = vec!["caller eq 'a'"; MAX_CLAUSES + 1].join(" and ");
        for text in [
            "caller",
            "caller ne 'a'",
            "colour eq 'a'",
            "eventTimestamp gt 'a'",
            &many,
        ] {
            assert_eq!(Filter::parse(text).unwrap_err().status, 400, "{text}");
        }
    }

    #[test]
    fn a_refusal_is_shown_as_failed_with_its_code_and_texts_are_cut() {
        let long = Event {
            path: "x".repeat(10 * MAX_TEXT),
            ..event()
        };
        let shown = long
            .ended(403, Some(&ArmError::new(403, "AuthorizationFailed", "No.")))
            .shown("t");
        assert_eq!(shown["status"]["value"], "Failed");
        assert_eq!(
            shown["subStatus"]["localizedValue"],
            "Forbidden (HTTP Status Code: 403)"
        );
        assert!(
            shown["properties"]["statusMessage"]
                .as_str()
                .unwrap()
                .contains("AuthorizationFailed")
        );
        assert_eq!(shown["resourceGroupName"], "Rg");
        assert_eq!(shown["resourceType"]["value"], "Microsoft.Network/virtualHubs");
        assert_eq!(shown["httpRequest"]["uri"].as_str().unwrap().len(), MAX_TEXT);
    }

    #[test]
    fn select_keeps_the_named_properties() {
        let shown = select(event().shown("t"), " Caller , status");
        assert_eq!(
            shown,
            json!({"caller": "object", "status": {"value": "Succeeded", "localizedValue": "Succeeded"}})
        );
    }
}
