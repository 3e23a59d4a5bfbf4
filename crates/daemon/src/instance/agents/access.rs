//! Which agent may follow which NIC: whoever has its token, where agents need tokens.
//!
//! A token is a secret of 256 bits that the manager never sees: its SHA-256 is a setting of each NIC that it is for, and comes with the
//! intent. It is looked at when an agent says what it follows, and again whenever an intent comes.

use std::fmt::Write;
use std::sync::Arc;

use ring::digest::{SHA256, digest};
use routeserver::intent::AgentTokens;
use tokio::sync::watch;

/// Whom to let in; shared by whoever takes intents and whoever takes agents.
#[derive(Clone, Debug)]
pub(in crate::instance) struct Access(Arc<watch::Sender<Option<AgentTokens>>>);

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
    /// Until an intent comes there is nothing to follow.
    pub(in crate::instance) fn new() -> Access {
        Access(Arc::new(watch::Sender::new(None)))
    }

    /// What an intent says.
    pub(in crate::instance) fn set(&self, tokens: Option<&AgentTokens>) {
        self.0.send_if_modified(|now| {
            let is_other = now.as_ref() != tokens;
            if is_other {
                *now = tokens.cloned();
            }
            is_other
        });
    }

    /// Told when anything has changed.
    pub(super) fn changes(&self) -> watch::Receiver<Option<AgentTokens>> {
        self.0.subscribe()
    }

    /// Whether somebody with this token may say anything; else why not.
    pub(super) fn may_ask(&self, token: Option<&TokenHash>) -> Result<(), String> {
        match (self.0.borrow().is_some(), token) {
            (true, None) => Err(
                "agents need a token here: make one with `routewright agent-token create --nic ID` and give it to the agent with \
                 --token-file"
                    .to_owned(),
            ),
            _ => Ok(()),
        }
    }

    /// Whether somebody with this token may follow all of these (ids in lower case); else why not.
    pub(super) fn may_follow(&self, token: Option<&TokenHash>, nics: &[String]) -> Result<(), String> {
        self.may_ask(token)?;
        let tokens = self.0.borrow();
        let (Some(tokens), Some(TokenHash(hash))) = (&*tokens, token) else {
            return Ok(());
        };
        let is_allowed = |nic: &&String| tokens.get(owner_of(nic)) == Some(hash);
        match nics.iter().find(|nic| !is_allowed(nic)) {
            None => Ok(()),
            Some(nic) => Err(format!(
                "the agent's token is not for {nic}, or is revoked: `routewright agent-token create --nic ID`, with each of its NICs, makes one \
                 that is"
            )),
        }
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
    fn a_hash_is_what_sha256sum_says() {
        let TokenHash(hash) = TokenHash::of("abc");
        assert_eq!(hash, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
