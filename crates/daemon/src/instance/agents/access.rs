//! Which agent may follow which NIC: whoever has its token, where agents need tokens.
//!
//! A token is a secret of 256 bits that the manager never sees: its SHA-256 is a setting of each NIC that it is for, and comes with the
//! intent. It is looked at when an agent says what it follows, and again whenever an intent comes.

use std::fmt::Write;
use std::sync::Arc;

use ring::digest::{SHA256, digest};
use routeserver::intent::AgentTokens;
use tokio::sync::watch;
use tonic::Status;

/// Whom to let in; shared by whoever takes intents and whoever takes agents.
#[derive(Clone, Debug)]
pub(in crate::instance) struct Access(Arc<watch::Sender<Rule>>);

/// What the intent says of agents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Rule {
    /// There was no intent yet: whether agents need tokens is not known, so nobody is let in.
    #[default]
    Unknown,
    /// No tokens are needed.
    Anybody,
    /// SHA-256 of the token of each NIC.
    Tokens(AgentTokens),
}

/// What is compared: a hash tells nothing of the token that it was made of, so nobody gains by how long comparing takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TokenHash(String);

impl TokenHash {
    pub(super) fn of(token: &str) -> TokenHash {
        let mut text = String::new();
        for octet in digest(&SHA256, token.as_bytes()).as_ref() {
            // Writing to a string cannot fail.
            let _ = write!(text, "{octet:02x}");
        }
        TokenHash(text)
    }
}

impl Access {
    /// Until an intent comes nobody is let in.
    pub(in crate::instance) fn new() -> Access {
        Access(Arc::new(watch::Sender::default()))
    }

    /// What an intent says.
    pub(in crate::instance) fn set(&self, tokens: Option<&AgentTokens>) {
        let rule = tokens.map_or(Rule::Anybody, |tokens| Rule::Tokens(tokens.clone()));
        self.0.send_if_modified(|now| {
            let is_other = *now != rule;
            *now = rule;
            is_other
        });
    }

    /// Told when anything has changed.
    pub(super) fn changes(&self) -> watch::Receiver<Rule> {
        self.0.subscribe()
    }

    /// Whether there was an intent.
    pub(in crate::instance) fn is_known(&self) -> bool {
        *self.0.borrow() != Rule::Unknown
    }

    /// Waits for the first intent.
    pub(super) async fn known(&self) {
        // It fails when the sender is gone, which is ours.
        let _ = self.changes().wait_for(|rule| *rule != Rule::Unknown).await;
    }

    /// Whether somebody with this token may say anything; else why not.
    pub(super) fn may_ask(&self, token: Option<&TokenHash>) -> Result<(), Status> {
        match (&*self.0.borrow(), token) {
            (Rule::Unknown, _) => Err(Status::unavailable(
                "this instance has no intent yet: whom it may let in it will know when its manager has told it",
            )),
            (Rule::Tokens(_), None) => Err(Status::unauthenticated(
                "agents need a token here: make one with `routewright agent-token create --nic ID` and give it to the agent with \
                 --token-file",
            )),
            _ => Ok(()),
        }
    }

    /// Whether somebody with this token may follow all of these (ids in lower case); else why not.
    pub(super) fn may_follow(&self, token: Option<&TokenHash>, nics: &[String]) -> Result<(), Status> {
        self.may_ask(token)?;
        let rule = self.0.borrow();
        let (Rule::Tokens(tokens), Some(TokenHash(hash))) = (&*rule, token) else {
            return Ok(());
        };
        let is_allowed = |nic: &&String| tokens.get(owner_of(nic)) == Some(hash);
        match nics.iter().find(|nic| !is_allowed(nic)) {
            None => Ok(()),
            Some(nic) => Err(Status::permission_denied(format!(
                "the agent's token is not for {}, or is revoked: `routewright agent-token create --nic ID`, with each of its NICs, makes one \
                 that is",
                shortened(nic, MAX_SHOWN)
            ))),
        }
    }
}

/// Octets of a NIC's id in a refusal: an id of Azure has some 200.
const MAX_SHOWN: usize = 300;

/// As much of a text that a stranger has sent as people need.
pub(super) fn shortened(text: &str, most: usize) -> String {
    let mut cut = most.min(text.len());
    while !text.is_char_boundary(cut) {
        cut -= 1;
    }
    match cut < text.len() {
        true => format!("{}…", &text[..cut]),
        false => text.to_owned(),
    }
}

/// The instances of a gateway (`<gateway id>/instances/0`) have the gateway's token.
fn owner_of(nic: &str) -> &str {
    match nic.rsplit_once("/instances/") {
        Some((gateway, number)) if number.bytes().all(|b| b.is_ascii_digit()) => gateway,
        _ => nic,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn access() -> Access {
        let access = Access::new();
        let token = |token: &str| {
            let TokenHash(hash) = TokenHash::of(token);
            hash
        };
        let tokens = [("a", token("one")), ("b", token("other")), ("gw", token("one"))];
        access.set(Some(&tokens.map(|(id, hash)| (id.to_owned(), hash)).into()));
        access
    }

    fn may(access: &Access, token: Option<&str>, nics: &[&str]) -> bool {
        let nics: Vec<String> = nics.iter().map(|nic| (*nic).to_owned()).collect();
        access.may_follow(token.map(TokenHash::of).as_ref(), &nics).is_ok()
    }

    #[test]
    fn a_token_is_for_the_nics_that_have_it_and_for_no_other() {
        let access = access();
        assert!(may(&access, Some("one"), &["a"]));
        assert!(may(&access, Some("one"), &["a", "gw/instances/1"]));
        for (token, nics) in [
            (Some("one"), &["b"][..]),
            (Some("one"), &["a", "b"]),
            (Some("one"), &["gone"]),
            (Some("one"), &["b/instances/0"]),
            (Some("two"), &["a"]),
            (None, &["a"]),
            (None, &[]),
        ] {
            assert!(!may(&access, token, nics), "{token:?} {nics:?}");
        }
    }

    #[test]
    fn where_no_tokens_are_needed_everybody_may_have_one_or_none() {
        let access = access();
        access.set(None);
        assert!(may(&access, None, &["a"]) && may(&access, Some("any"), &["a"]));
    }

    #[test]
    fn before_the_first_intent_nobody_is_let_in_whatever_he_has() {
        let access = Access::new();
        assert!(!access.is_known());
        for token in [None, Some("one")] {
            assert!(!may(&access, token, &["a"]) && !may(&access, token, &[]));
        }
        access.set(None);
        assert!(access.is_known() && may(&access, None, &["a"]));
    }

    #[test]
    fn a_refusal_is_short_however_long_the_id_is() {
        let long = "ü".repeat(2 << 20);
        let access = access();
        let refusal = access.may_follow(Some(&TokenHash::of("one")), &[long]).unwrap_err();
        assert!(refusal.message().len() < 600, "{} octets", refusal.message().len());
        assert!(refusal.message().contains("üüü…") && refusal.message().contains("agent-token create"));
    }

    #[test]
    fn a_hash_is_what_sha256sum_says() {
        let TokenHash(hash) = TokenHash::of("abc");
        assert_eq!(hash, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
