//! `routewright apply` and `routewright export`: a design as a file.
//!
//! ```text
//! file ─► document (resources) ─► order (by references) ─► for each: GET, compare, PUT what differs ─► --prune: delete the others
//!                                                  └► --dry-run: validate; --routes: what would change of routes
//! server ─► export ─► a file that apply takes
//! ```

mod document;
mod export;
mod order;
mod validate;

use std::collections::BTreeSet;
use std::io::Read;
use std::path::PathBuf;

use clap::Args;
use reqwest::Method;
use serde_json::{Map, Value};

use crate::client::ClientError;
use crate::dry_run;
use crate::output;
use crate::resource::{Session, Yes, printed};
use crate::target::Target;

pub(crate) use export::{ExportArgs, export};

/// Longest file that is read.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// Members that the server takes and never tells, nor do we.
const WRITE_ONLY: [&str; 5] = [
    "sharedKey",
    "authorizationKey",
    "adminPassword",
    "md5Password",
    "bfdKey",
];

/// Arguments of `routewright apply`.
#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    target: Target,
    /// YAML or JSON: resources as ARM has them, in any order, with `settings` of ours beside `properties`; `-` reads stdin.
    #[arg(short, long)]
    file: PathBuf,
    /// The resource group of resources that have a type and a name instead of an id.
    #[arg(short = 'g', long)]
    resource_group: Option<String>,
    /// Show what would change, and change nothing; the server is asked whether it would take it.
    #[arg(long)]
    dry_run: bool,
    /// With --dry-run: also show which routes would appear, vanish or change.
    #[arg(long, requires = "dry_run")]
    routes: bool,
    /// Delete what is in the file's resource groups and not in the file.
    #[arg(long)]
    prune: bool,
    #[command(flatten)]
    yes: Yes,
}

/// A resource as a file wants it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wanted {
    id: String,
    body: Value,
    /// Settings of ours, which are no part of the body.
    settings: Option<Value>,
}

impl Wanted {
    fn key(&self) -> String {
        self.id.to_ascii_lowercase()
    }

    /// Where its settings are.
    fn settings_path(&self) -> String {
        settings_path(&self.id)
    }
}

fn settings_path(id: &str) -> String {
    format!("/routewright/v1{id}/settings")
}

pub(crate) async fn apply(args: ApplyArgs) -> Result<(), ClientError> {
    let text = read(&args.file)?;
    let session = Session::new(args.target)?;
    let group = args.resource_group.map(|name| session.group_id(&name)).transpose()?;
    let group = group.unwrap_or_else(|| format!("/subscriptions/{}", session.target.subscription));
    let wanted = document::parse(&text, &group).map_err(ClientError::Usage)?;
    let lost = lost(&session, &wanted).await?;
    let wanted = order::order(wanted, &lost).map_err(ClientError::Usage)?;
    if args.dry_run {
        validate::check(&session, &would_write(&session, &wanted).await?, &lost).await?;
    }
    for one in &wanted {
        carry_out(&session, one, args.dry_run).await?;
        if let Some(settings) = &one.settings {
            carry_out_settings(&session, one, settings, args.dry_run).await?;
        }
    }
    let extra = match args.prune {
        true => superfluous(&session, &wanted).await?,
        false => Vec::new(),
    };
    if args.routes {
        dry_run::show(&session, &changes(&session, &wanted, &extra).await?).await?;
    }
    if !args.dry_run && !extra.is_empty() {
        args.yes
            .confirm(&format!("delete {} resources that are not in the file", extra.len()))?;
    }
    for id in extra {
        say(&format!("- {id}"))?;
        if !args.dry_run {
            session.delete(&id).await?;
        }
    }
    Ok(())
}

fn read(path: &PathBuf) -> Result<String, ClientError> {
    let failed = |error: std::io::Error| ClientError::Usage(format!("{}: {error}", path.display()));
    let source: Box<dyn Read> = match path.as_os_str() == "-" {
        true => Box::new(std::io::stdin()),
        false => Box::new(std::fs::File::open(path).map_err(failed)?),
    };
    let mut text = String::new();
    source
        .take(MAX_FILE_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    match text.len() as u64 <= MAX_FILE_BYTES {
        true => Ok(text),
        false => Err(failed(std::io::ErrorKind::FileTooLarge.into())),
    }
}

/// `+` made, `~` changed with what differs, `=` as it is; told when it is done.
async fn carry_out(session: &Session, wanted: &Wanted, dry_run: bool) -> Result<(), ClientError> {
    let mut there = look_up(session, wanted).await?;
    if !dry_run {
        match write(session, wanted, there.as_ref()).await {
            // Somebody wrote between our look and our word: once more, with what is there now.
            Err(ClientError::Refused { status: 412, .. }) => {
                there = look_up(session, wanted).await?;
                write(session, wanted, there.as_ref()).await?;
            }
            done => done?,
        }
    }
    let Some(there) = there else {
        return say(&format!("+ {}", wanted.id));
    };
    let differences = differences(&there, &wanted.body);
    say(&format!(
        "{} {}",
        if differences.is_empty() { "=" } else { "~" },
        wanted.id
    ))?;
    differences
        .iter()
        .try_for_each(|difference| say(&format!("    {difference}")))
}

/// Keys of the file's peerings whose other side was deleted.
async fn lost(session: &Session, wanted: &[Wanted]) -> Result<BTreeSet<String>, ClientError> {
    let mut lost = BTreeSet::new();
    for one in wanted.iter().filter(|one| order::is_peering(&one.key())) {
        let there = look_up(session, one).await?.unwrap_or_default();
        if is_lost(&there["properties"]) {
            lost.insert(one.key());
        }
    }
    Ok(lost)
}

fn is_lost(properties: &Value) -> bool {
    properties["peeringState"] == "Disconnected"
}

/// What would be written, as it would be.
async fn would_write(session: &Session, wanted: &[Wanted]) -> Result<Vec<Wanted>, ClientError> {
    let mut writes = Vec::new();
    for one in wanted {
        let body = match look_up(session, one).await? {
            None => one.body.clone(),
            Some(there) if differences(&there, &one.body).is_empty() => continue,
            Some(there) => merged(&there, &one.body),
        };
        writes.push(Wanted { body, ..one.clone() });
    }
    Ok(writes)
}

/// All that would be sent, for a dry run.
async fn changes(session: &Session, wanted: &[Wanted], extra: &[String]) -> Result<Vec<Value>, ClientError> {
    let written = would_write(session, wanted).await?;
    let puts = written
        .iter()
        .map(|one| dry_run::change("PUT", &one.id, Some(&one.body)));
    let settings = wanted.iter().filter_map(|one| {
        let settings = one.settings.as_ref()?;
        Some(dry_run::change("PATCH", &one.settings_path(), Some(settings)))
    });
    let deletes = extra.iter().map(|id| dry_run::change("DELETE", id, None));
    Ok(puts.chain(settings).chain(deletes).collect())
}

/// Settings follow their resource; those that the file does not mention stay.
async fn carry_out_settings(session: &Session, of: &Wanted, wanted: &Value, dry_run: bool) -> Result<(), ClientError> {
    let path = of.settings_path();
    let there = found(session.client.get(&path).await)?.unwrap_or_default();
    let differences = differences(&there, wanted);
    if differences.is_empty() {
        return Ok(());
    }
    if !dry_run {
        session.client.send(Method::PATCH, &path, Some(wanted)).await?;
    }
    let mut lines = differences.iter();
    lines.try_for_each(|difference| say(&format!("    settings.{difference}")))
}

async fn look_up(session: &Session, wanted: &Wanted) -> Result<Option<Value>, ClientError> {
    found(session.client.get(&wanted.id).await)
}

/// What is not there is no failure.
fn found(answer: Result<Value, ClientError>) -> Result<Option<Value>, ClientError> {
    match answer {
        Ok(there) => Ok(Some(there)),
        Err(ClientError::Refused { status: 404, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes what differs, if nobody has written since `there` was read.
async fn write(session: &Session, wanted: &Wanted, there: Option<&Value>) -> Result<(), ClientError> {
    let Some(there) = there else {
        return session.client.put(&wanted.id, &wanted.body).await.map(|_| ());
    };
    if differences(there, &wanted.body).is_empty() {
        return Ok(());
    }
    let body = merged(there, &wanted.body);
    let etag = there["etag"].as_str();
    session.client.put_if_match(&wanted.id, &body, etag).await.map(|_| ())
}

fn say(line: &str) -> Result<(), ClientError> {
    printed(output::print_text(&format!("{line}\n")))
}

/// What a file says differently, one line each. What it doesn't mention may be anything.
fn differences(there: &Value, wanted: &Value) -> Vec<String> {
    let mut found = Vec::new();
    collect(there, wanted, String::new(), &mut found);
    found
}

fn collect(there: &Value, wanted: &Value, path: String, found: &mut Vec<String>) {
    match (there, wanted) {
        (Value::Object(members), Value::Object(wanted)) => {
            // However alike, it must be written before its other side can be made anew.
            if is_lost(there) {
                found.push(format!("{path}.peeringState: \"Disconnected\", is written anew"));
            }
            for (name, member) in wanted {
                let path = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                match members.get(name) {
                    None if WRITE_ONLY.contains(&name.as_str()) => {
                        found.push(format!("{path}: a secret, which cannot be compared, is written"));
                    }
                    there => collect(there.unwrap_or(&Value::Null), member, path, found),
                }
            }
        }
        (Value::Array(there), Value::Array(wanted)) if there.len() == wanted.len() => {
            for (at, (there, wanted)) in there.iter().zip(wanted).enumerate() {
                collect(there, wanted, format!("{path}[{at}]"), found);
            }
        }
        (Value::String(there), Value::String(wanted)) if is_id(wanted) && there.eq_ignore_ascii_case(wanted) => {}
        (there, wanted) if there == wanted || (wanted.is_null() && there.is_null()) => {}
        (there, wanted) => found.push(format!("{path}: {there} -> {wanted}")),
    }
}

fn is_id(text: &str) -> bool {
    text.starts_with("/subscriptions/")
}

/// What is there, with what the file says: its lists replace, its objects add.
fn merged(there: &Value, wanted: &Value) -> Value {
    match (there, wanted) {
        (Value::Object(there), Value::Object(wanted)) => {
            let mut all: Map<String, Value> = there.clone();
            for (name, member) in wanted {
                let before = all.get(name).cloned().unwrap_or(Value::Null);
                all.insert(name.clone(), merged(&before, member));
            }
            Value::Object(all)
        }
        (_, wanted) => wanted.clone(),
    }
}

/// Ids in the file's groups that the file doesn't have, children first. A child that the file's parent lists in its body counts as had.
async fn superfluous(session: &Session, wanted: &[Wanted]) -> Result<Vec<String>, ClientError> {
    let had: BTreeSet<String> = wanted.iter().map(Wanted::key).collect();
    let groups: BTreeSet<String> = wanted.iter().filter_map(|one| order::group_of(&one.key())).collect();
    let mut extra = Vec::new();
    for group in groups {
        // A group that is not there yet (`--dry-run`) has nothing in it.
        let Some(_) = found(session.client.get(&group).await)? else {
            continue;
        };
        let there = export::of_group(session, &group).await?;
        extra.extend(
            there
                .into_iter()
                .filter(|one| !had.contains(&one.key()) && !is_listed(one, wanted)),
        );
    }
    let mut extra = order::order(extra, &BTreeSet::new()).map_err(ClientError::Usage)?;
    extra.reverse();
    Ok(extra.into_iter().map(|one| one.id).collect())
}

/// Whether the file's parent of a child has it in its body, as virtual networks have subnets.
fn is_listed(child: &Wanted, wanted: &[Wanted]) -> bool {
    let mut segments = child.id.rsplitn(3, '/');
    let (Some(name), Some(kind), Some(parent)) = (segments.next(), segments.next(), segments.next()) else {
        return false;
    };
    let parent = wanted.iter().find(|one| one.id.eq_ignore_ascii_case(parent));
    let listed = parent.and_then(|parent| parent.body["properties"][kind].as_array());
    let same = |one: &Value| {
        one["name"]
            .as_str()
            .is_some_and(|other| other.eq_ignore_ascii_case(name))
    };
    listed.is_some_and(|listed| listed.iter().any(same))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_the_file_mentions_is_compared() {
        let there = json!({ "a": 1, "l": [{ "x": 1, "y": 2 }], "ref": { "id": "/subscriptions/S/x" }, "etag": "e" });
        let same = json!({ "a": 1, "l": [{ "x": 1 }], "ref": { "id": "/subscriptions/s/X" }, "none": null });
        assert_eq!(differences(&there, &same), Vec::<String>::new());
        let other = json!({ "a": 2, "l": [{ "x": 3 }], "new": true });
        assert_eq!(
            differences(&there, &other),
            ["a: 1 -> 2", "l[0].x: 1 -> 3", "new: null -> true"]
        );
    }

    #[test]
    fn a_peering_that_lost_its_other_side_differs_however_alike_alone_or_in_its_networks_list() {
        let peering = |state: &str| json!({ "properties": { "allowForwardedTraffic": true, "peeringState": state } });
        let wanted = json!({ "properties": { "allowForwardedTraffic": true } });
        let in_list = |one: Value| json!({ "properties": { "virtualNetworkPeerings": [one] } });
        for (state, expected) in [("Connected", 0), ("Initiated", 0), ("Disconnected", 1)] {
            let alone = differences(&peering(state), &wanted);
            let listed = differences(&in_list(peering(state)), &in_list(wanted.clone()));
            assert_eq!((alone.len(), listed.len()), (expected, expected), "{state}");
        }
    }

    #[test]
    fn a_secret_is_written_and_never_shown() {
        let wanted = json!({ "properties": { "sharedKey": "hunter2" } });
        let told = differences(&json!({ "properties": {} }), &wanted);
        assert_eq!(told.len(), 1);
        assert!(!told[0].contains("hunter2"), "{told:?}");
    }

    #[test]
    fn what_the_file_does_not_mention_stays() {
        let there = json!({ "tags": { "a": "1" }, "properties": { "b": true, "l": [1, 2] } });
        let wanted = json!({ "properties": { "l": [3], "c": 1 } });
        assert_eq!(
            merged(&there, &wanted),
            json!({ "tags": { "a": "1" }, "properties": { "b": true, "l": [3], "c": 1 } })
        );
    }

    #[test]
    fn a_subnet_that_its_network_lists_is_in_the_file() {
        let network = Wanted {
            id: "/s/vnets/v".to_owned(),
            body: json!({ "properties": { "subnets": [{ "name": "A" }] } }),
            settings: None,
        };
        let subnet = |name: &str| Wanted {
            id: format!("/S/vnets/V/subnets/{name}"),
            body: json!({}),
            settings: None,
        };
        assert!(is_listed(&subnet("a"), std::slice::from_ref(&network)));
        assert!(!is_listed(&subnet("b"), &[network]));
    }
}
