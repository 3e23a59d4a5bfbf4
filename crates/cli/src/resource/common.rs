//! The verbs that every noun has, in the same words: show, list, delete, wait; and what all `create` and `update` share. A noun says what
//! it is called, where it is, and which flags are its own.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::{Group, Location, NoWait, Session, Tags, WaitFor, Yes};
use crate::client::ClientError;
use crate::output::Column;

/// A type of resource, as the command line needs to know it.
#[derive(Debug)]
pub(super) struct Kind {
    /// Its segment in ids.
    pub(super) path: &'static str,
    /// What it is called.
    pub(super) called: &'static str,
    pub(super) columns: &'static [Column],
    /// Deleting it asks first, as with `az`.
    pub(super) asks: bool,
}

/// A top-level resource.
#[derive(Debug, Args)]
pub(super) struct Named {
    #[command(flatten)]
    pub(super) group: Group,
    /// Its name or id.
    #[arg(short, long)]
    pub(super) name: String,
}

impl Named {
    pub(super) fn id(&self, session: &Session, kind: &Kind) -> Result<String, ClientError> {
        session.id(&self.group, kind.path, &self.name)
    }
}

/// What every `create` of a top-level resource takes beside its own flags.
#[derive(Debug, Args)]
pub(super) struct ToCreate {
    #[command(flatten)]
    pub(super) named: Named,
    #[command(flatten)]
    location: Location,
    #[command(flatten)]
    tags: Tags,
    #[command(flatten)]
    _no_wait: NoWait,
}

impl ToCreate {
    /// Makes it, of a body with what the noun's own flags say.
    pub(super) async fn carry_out(self, session: &Session, kind: &Kind, mut body: Value) -> Result<(), ClientError> {
        let id = self.named.id(session, kind)?;
        body["location"] = json!(session.location(&self.location, &id).await?);
        self.tags.add_to(&mut body)?;
        session.create(kind.columns, &id, &body).await
    }
}

/// What every `update` of a top-level resource takes beside its own flags.
#[derive(Debug, Args)]
pub(super) struct ToUpdate {
    #[command(flatten)]
    pub(super) named: Named,
    #[command(flatten)]
    tags: Tags,
    #[command(flatten)]
    _no_wait: NoWait,
}

impl ToUpdate {
    /// Puts it back with `properties` changed.
    pub(super) async fn carry_out(
        self,
        session: &Session,
        kind: &Kind,
        change: impl FnOnce(&mut Map<String, Value>),
    ) -> Result<(), ClientError> {
        let id = self.named.id(session, kind)?;
        session.update(kind.columns, &id, change, &self.tags).await
    }
}

/// Members for the flags that were given.
pub(super) fn given<const N: usize>(flags: [(&str, Option<Value>); N]) -> Map<String, Value> {
    let given = flags.into_iter();
    given
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
}

/// What can be done with a top-level resource of any type.
#[derive(Debug, Subcommand)]
pub(super) enum Common {
    /// Show one.
    Show {
        #[command(flatten)]
        named: Named,
    },
    /// List those of a resource group, or of the whole subscription.
    List {
        #[command(flatten)]
        group: Group,
    },
    /// Delete one.
    Delete {
        #[command(flatten)]
        named: Named,
        #[command(flatten)]
        yes: Yes,
        #[command(flatten)]
        _no_wait: NoWait,
    },
    /// Wait until one is in a state.
    Wait {
        #[command(flatten)]
        named: Named,
        #[command(flatten)]
        wait: WaitFor,
    },
}

impl Common {
    pub(super) async fn run(self, session: &Session, kind: &Kind) -> Result<(), ClientError> {
        match self {
            Common::Show { named } => session.show(kind.columns, &named.id(session, kind)?).await,
            Common::List { group } => session.list(kind.columns, &group, kind.path).await,
            Common::Delete { named, yes, .. } => delete(session, kind, &named.id(session, kind)?, &yes).await,
            Common::Wait { named, wait } => session.wait(&named.id(session, kind)?, &wait).await,
        }
    }
}

/// How a parent is named: a flag of its own beside `-g`.
pub(super) trait Parent: Args {
    /// The parent's type.
    const KIND: &'static Kind;
    /// The flag that names it.
    const FLAG: &'static str;

    fn group(&self) -> &Group;
    fn name(&self) -> Option<&str>;

    fn id(&self, session: &Session) -> Result<String, ClientError> {
        match self.name() {
            Some(name) => session.id(self.group(), Self::KIND.path, name),
            None => Err(ClientError::Usage(format!(
                "--{} is needed where a name is no id",
                Self::FLAG
            ))),
        }
    }
}

/// A resource inside another.
#[derive(Debug, Args)]
pub(super) struct Child<P: Parent> {
    #[command(flatten)]
    pub(super) parent: P,
    /// Its name or id.
    #[arg(short, long)]
    pub(super) name: String,
}

impl<P: Parent> Child<P> {
    pub(super) fn id(&self, session: &Session, kind: &Kind) -> Result<String, ClientError> {
        match self.name.starts_with('/') {
            true => Ok(self.name.trim_end_matches('/').to_owned()),
            false => session.child(&self.parent.id(session)?, kind.path, &self.name),
        }
    }
}

/// What can be done with a resource inside another.
#[derive(Debug, Subcommand)]
pub(super) enum CommonOfChild<P: Parent> {
    /// Show one.
    Show {
        #[command(flatten)]
        child: Child<P>,
    },
    /// List all.
    List {
        #[command(flatten)]
        parent: P,
    },
    /// Delete one.
    Delete {
        #[command(flatten)]
        child: Child<P>,
        #[command(flatten)]
        yes: Yes,
        #[command(flatten)]
        _no_wait: NoWait,
    },
    /// Wait until one is in a state.
    Wait {
        #[command(flatten)]
        child: Child<P>,
        #[command(flatten)]
        wait: WaitFor,
    },
}

impl<P: Parent> CommonOfChild<P> {
    pub(super) async fn run(self, session: &Session, kind: &Kind) -> Result<(), ClientError> {
        match self {
            CommonOfChild::Show { child } => session.show(kind.columns, &child.id(session, kind)?).await,
            CommonOfChild::List { parent } => {
                let path = format!("{}/{}", parent.id(session)?, kind.path);
                session.show_all(kind.columns, &path).await
            }
            CommonOfChild::Delete { child, yes, .. } => delete(session, kind, &child.id(session, kind)?, &yes).await,
            CommonOfChild::Wait { child, wait } => session.wait(&child.id(session, kind)?, &wait).await,
        }
    }
}

async fn delete(session: &Session, kind: &Kind, id: &str, yes: &Yes) -> Result<(), ClientError> {
    if kind.asks {
        let name = id.rsplit('/').next().unwrap_or_default();
        yes.confirm(&format!("delete the {} {name}", kind.called))?;
    }
    session.delete(id).await
}
