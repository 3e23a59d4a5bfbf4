//! Which agent may follow which NIC: whoever has its token, where agents need tokens.
//!
//! A token is a secret of 256 bits that the manager never sees: its SHA-256 is a setting of each NIC that it is for, and comes with the
//! intent. It is looked at when an agent says what it follows, and again whenever an intent comes.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use ring::digest::{SHA256, digest};
use routeserver::intent::AgentTokens;
use tokio::sync::watch;
use tonic::Status;

use super::port::AgentPortProblem;

/// Whom to let in; shared by whoever takes intents and whoever takes agents.
#[derive(Clone, Debug)]
pub(in crate::instance) struct Access {
    rule: Arc<watch::Sender<Rule>>,
    /// The port itself keeps strangers out: only this machine reaches it, or it wants certificates.
    is_guarded: bool,
    problem: AgentPortProblem,
}

/// What the intent says of agents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Rule {
    /// There was no intent yet: whether agents need tokens is not known, so nobody is let in.
    #[default]
    Unknown,
    /// No tokens are needed.
    Anybody,
    /// No tokens are needed, says an intent that knows of another port than ours, which strangers reach.
    Nobody,
    /// A token is needed.
    Tokens(KnownTokens),
}

/// The tokens that there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KnownTokens {
    /// SHA-256 of the token of each NIC.
    by_nic: AgentTokens,
    /// How many NICs each token is for.
    nics: HashMap<String, usize>,
}

impl KnownTokens {
    fn new(by_nic: AgentTokens) -> KnownTokens {
        let mut nics = HashMap::new();
        for hash in by_nic.values() {
            *nics.entry(hash.clone()).or_default() += 1;
        }
        KnownTokens { by_nic, nics }
    }
}

/// Why a process that is older than the configuration lets nobody in.
const STRANGERS_REACH_US: &str = "agents are let in no more: other machines reach the port of this instance, the configuration asks for no \
                                  tokens now, and this process was started without `client_ca`; `routewright upgrade` starts it again \
                                  with what `[agents]` says";

/// What is compared: a hash tells nothing of the token that it was made of, so nobody gains by how long comparing takes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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
    /// Until an intent comes nobody is let in. `is_guarded`: the port itself keeps strangers out, so that tokens may be done without.
    pub(in crate::instance) fn new(is_guarded: bool) -> Access {
        Access {
            rule: Arc::default(),
            is_guarded,
            problem: AgentPortProblem::default(),
        }
    }

    /// Why nobody is let in although there is an intent, if so.
    pub(in crate::instance) fn problem(&self) -> AgentPortProblem {
        self.problem.clone()
    }

    /// What an intent says.
    pub(in crate::instance) fn set(&self, tokens: Option<&AgentTokens>) {
        let rule = match (tokens, self.is_guarded) {
            (Some(tokens), _) => Rule::Tokens(KnownTokens::new(tokens.clone())),
            (None, true) => Rule::Anybody,
            (None, false) => Rule::Nobody,
        };
        self.problem
            .set((rule == Rule::Nobody).then(|| STRANGERS_REACH_US.to_owned()));
        self.rule.send_if_modified(|now| {
            let is_other = *now != rule;
            *now = rule;
            is_other
        });
    }

    /// Told when anything has changed.
    pub(super) fn changes(&self) -> watch::Receiver<Rule> {
        self.rule.subscribe()
    }

    /// Whether there was an intent.
    pub(in crate::instance) fn is_known(&self) -> bool {
        *self.rule.borrow() != Rule::Unknown
    }

    /// Waits for the first intent.
    pub(super) async fn known(&self) {
        // It fails when the sender is gone, which is ours.
        let _ = self.changes().wait_for(|rule| *rule != Rule::Unknown).await;
    }

    /// Whether somebody with this token may say anything; else why not.
    pub(super) fn may_ask(&self, token: Option<&TokenHash>) -> Result<(), Status> {
        match (&*self.rule.borrow(), token) {
            (Rule::Unknown, _) => Err(Status::unavailable(
                "this instance has no intent yet: whom it may let in it will know when its manager has told it",
            )),
            (Rule::Tokens(_), None) => Err(Status::unauthenticated(
                "agents need a token here: make one with `routewright agent-token create --nic ID` and give it to the agent with \
                 --token-file",
            )),
            (Rule::Tokens(tokens), Some(TokenHash(hash))) if !tokens.nics.contains_key(hash) => {
                Err(Status::permission_denied(
                    "the agent's token is not for anything here, or is revoked: `routewright agent-token create --nic ID`, with each of its \
                 NICs, makes one that is",
                ))
            }
            (Rule::Nobody, _) => Err(Status::permission_denied(STRANGERS_REACH_US)),
            (Rule::Anybody | Rule::Tokens(_), _) => Ok(()),
        }
    }

    /// How many NICs somebody's token is for; `None`: no tokens are needed.
    pub(super) fn nics_of(&self, token: Option<&TokenHash>) -> Option<usize> {
        let rule = self.rule.borrow();
        let (Rule::Tokens(tokens), Some(TokenHash(hash))) = (&*rule, token) else {
            return None;
        };
        Some(tokens.nics.get(hash).copied().unwrap_or_default())
    }

    /// Whether somebody with this token may follow all of these (ids in lower case); else why not. Nobody follows nothing.
    pub(super) fn may_follow(&self, token: Option<&TokenHash>, nics: &[String]) -> Result<(), Status> {
        self.may_ask(token)?;
        if nics.is_empty() {
            return Err(Status::invalid_argument("an agent follows at least one NIC"));
        }
        let rule = self.rule.borrow();
        let (Rule::Tokens(tokens), Some(TokenHash(hash))) = (&*rule, token) else {
            return Ok(());
        };
        let is_allowed = |nic: &&String| tokens.by_nic.get(owner_of(nic)) == Some(hash);
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
        let access = Access::new(false);
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
            (Some("two"), &[]),
            (Some("one"), &[]),
            (None, &["a"]),
            (None, &[]),
        ] {
            assert!(!may(&access, token, nics), "{token:?} {nics:?}");
        }
    }

    #[test]
    fn whoever_has_no_token_that_is_known_is_not_even_heard() {
        let access = access();
        let may_ask = |token: Option<&str>| access.may_ask(token.map(TokenHash::of).as_ref()).is_ok();
        assert!(may_ask(Some("one")) && !may_ask(Some("two")) && !may_ask(None));
        let nics_of = |token: Option<&str>| access.nics_of(token.map(TokenHash::of).as_ref());
        assert_eq!(
            ["one", "other", "two"].map(|token| nics_of(Some(token))),
            [Some(2), Some(1), Some(0)]
        );
        access.set(Some(&AgentTokens::new()));
        assert!(!may_ask(Some("one")));
    }

    #[test]
    fn a_port_that_strangers_reach_lets_nobody_in_without_tokens_whatever_the_intent_says_and_it_is_told() {
        let access = access();
        assert_eq!(access.problem().get(), None);
        let mut changes = access.changes();
        access.set(None);
        // Those that follow are told, and leave.
        assert!(changes.has_changed().unwrap());
        for token in [None, Some("one")] {
            assert!(!may(&access, token, &["a"]) && !may(&access, token, &[]));
        }
        assert!(access.problem().get().unwrap().contains("routewright upgrade"));
        let refusal = access.may_ask(None).unwrap_err();
        assert!(refusal.message().contains("routewright upgrade"), "{refusal}");
        changes.mark_unchanged();
        access.set(Some(&[("a".to_owned(), TokenHash::of("one").0)].into()));
        assert!(may(&access, Some("one"), &["a"]) && access.problem().get().is_none());
    }

    #[test]
    fn where_no_tokens_are_needed_everybody_may_have_one_or_none() {
        let access = Access::new(true);
        access.set(None);
        assert_eq!(access.nics_of(Some(&TokenHash::of("any"))), None);
        assert!(!may(&access, None, &[]));
        assert!(may(&access, None, &["a"]) && may(&access, Some("any"), &["a"]));
    }

    #[test]
    fn before_the_first_intent_nobody_is_let_in_whatever_he_has() {
        let access = Access::new(true);
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
