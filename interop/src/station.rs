//! One lab per speaker, made when the first scenario wants it and kept for the next: scenarios of a speaker run one after another.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use anyhow::{Context, Result, anyhow, bail};

use crate::scenarios::Scenario;
use crate::speaker::Speaker;
use crate::world::{Kind, World};

/// A speaker's place in the matrix.
#[derive(Debug)]
pub struct Station {
    speaker: Speaker,
    rootless: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// There only between scenarios, and only after one that went well.
    world: Option<World>,
    /// A lab that never came up will not with the next scenario either.
    broken: Option<String>,
}

impl Station {
    /// A station without a lab yet.
    pub fn new(speaker: Speaker, rootless: bool) -> Station {
        Station {
            speaker,
            rootless,
            state: Mutex::default(),
        }
    }

    /// Runs a scenario from a quiet world.
    pub fn run(&self, scenario: &Scenario) -> Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // A world is put back only when the scenario has gone well; otherwise the next one gets a fresh lab.
        let mut world = match state.world.take().filter(|world| world.kind == scenario.kind) {
            Some(world) => world,
            None => self.build(&mut state, scenario.kind)?,
        };
        world.calm_down().context("before the scenario")?;
        (scenario.run)(&mut world).map_err(|error| anyhow!("{error:#}\n{}", world.last_words()))?;
        state.world = Some(world);
        Ok(())
    }

    /// Takes the lab away.
    pub fn close(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).world = None;
    }

    fn build(&self, state: &mut State, kind: Kind) -> Result<World> {
        if let Some(reason) = &state.broken {
            bail!("{reason} (said before)");
        }
        let built = executable().and_then(|executable| World::up(self.speaker, kind, executable, self.rootless));
        built.inspect_err(|error| state.broken = Some(format!("{error:#}")))
    }
}

/// The `routewright` of this build, brought up to date once.
fn executable() -> Result<&'static Path> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| lab::harness::executable().map_err(|error| error.to_string()));
    built.as_deref().map_err(|error| anyhow!("{error}"))
}
