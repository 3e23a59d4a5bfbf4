//! `routewright agent-token`: the secrets with which agents may follow their NICs.
//!
//! Made here and shown once; the server is told its SHA-256, as a setting of each NIC that it is for.

use clap::{Args, Subcommand};
use reqwest::Method;
use ring::digest::{SHA256, digest};
use serde_json::{Map, Value, json};

use crate::client::ClientError;
use crate::output;
use crate::resource::{Session, printed};
use crate::target::Target;

/// Arguments of `routewright agent-token`.
#[derive(Debug, Args)]
pub(crate) struct AgentTokenArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a token for one or more NICs and print it: it is told now and never again. Each has one token; the one before is worth nothing
    /// any more.
    Create(Nics),
    /// Take the token of NICs away: whoever follows them with it is told no more.
    Revoke(Nics),
}

/// For whom.
#[derive(Debug, Args)]
struct Nics {
    #[command(flatten)]
    target: Target,
    /// A NIC's id, or a gateway's for all its instances.
    #[arg(long = "nic", value_name = "ID", required = true, num_args = 1..)]
    nics: Vec<String>,
}

/// `routewright agent-token`
pub(crate) async fn run(args: AgentTokenArgs) -> Result<(), ClientError> {
    match args.verb {
        Verb::Create(nics) => {
            let token = fresh();
            set(nics, json!(hash(&token))).await?;
            printed(output::print_text(&format!("{token}\n")))
        }
        Verb::Revoke(nics) => set(nics, Value::Null).await,
    }
}

async fn set(Nics { target, nics }: Nics, hash: Value) -> Result<(), ClientError> {
    let session = Session::new(target)?;
    let patch = json!({ "agentTokenSha256": hash });
    let (path, patch) = match nics.as_slice() {
        [nic] => (format!("/routewright/v1{nic}/settings"), patch),
        // All or none: whoever is told no token must not find that some NICs have lost theirs.
        _ => {
            let patches: Map<String, Value> = nics.into_iter().map(|nic| (nic, patch.clone())).collect();
            ("/routewright/v1/settings".to_owned(), json!(patches))
        }
    };
    session
        .client
        .send(Method::PATCH, &path, Some(&patch))
        .await
        .map(|_| ())
}

/// 244 bits from the system's random source.
fn fresh() -> String {
    let [high, low] = [(); 2].map(|()| uuid::Uuid::new_v4().simple());
    format!("rwa_{high}{low}")
}

fn hash(token: &str) -> String {
    let hash = digest(&SHA256, token.as_bytes());
    hash.as_ref().iter().map(|octet| format!("{octet:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_tokens_are_the_same_and_a_hash_is_what_sha256sum_says() {
        assert_ne!(fresh(), fresh());
        assert_eq!(
            hash("abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
