//! Where `cargo xtask test` has put the clients: `clients/` in the target directory.

use std::path::{Path, PathBuf};

/// A place with `venv/`, `schemathesis/` and `node_modules/`.
#[derive(Clone, Debug)]
pub struct Tools {
    directory: PathBuf,
}

impl Tools {
    /// Beside this build: the executable is in `target/<profile>/deps`.
    pub fn of_this_build() -> Tools {
        let executable = std::env::current_exe().unwrap_or_default();
        let target = executable.ancestors().nth(3).unwrap_or(Path::new("."));
        Tools {
            directory: target.join("clients"),
        }
    }

    /// What is missing for a program, if anything.
    pub fn missing(&self, proof: &str) -> Option<String> {
        let path = self.directory.join(proof);
        (!path.exists()).then(|| format!("{proof} is not installed; `cargo xtask test` does it when it may"))
    }

    /// Python, az and what they need.
    pub(crate) fn venv_programs(&self) -> PathBuf {
        self.directory.join("venv/bin")
    }

    /// The interpreter of the virtual environment that a file is in.
    pub(crate) fn python(&self, proof: &str) -> PathBuf {
        let environment = proof.split('/').next().unwrap_or_default();
        self.directory.join(environment).join("bin/python")
    }

    /// Where node finds the SDK: flows are run from a copy here.
    pub(crate) fn node_directory(&self) -> &Path {
        &self.directory
    }
}
