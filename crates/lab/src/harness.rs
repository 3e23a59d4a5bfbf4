//! For tests, benchmarks and the interop matrix: labs that are named, kept and taken away without anybody typing.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::LabError;
use crate::handle::{Lab, UpOptions};
use crate::topology::Topology;

/// The `routewright` executable: `ROUTEWRIGHT_BIN`, else built now, beside the calling test's own executable.
pub fn executable() -> Result<PathBuf, LabError> {
    if let Some(given) = std::env::var_os("ROUTEWRIGHT_BIN") {
        return Ok(PathBuf::from(given));
    }
    let own = std::env::current_exe().map_err(LabError::system("finding our own executable"))?;
    // target/PROFILE/deps/NAME or target/PROFILE/NAME
    let directory = own
        .ancestors()
        .skip(1)
        .find(|d| !d.ends_with("deps"))
        .unwrap_or(Path::new("."));
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--package", "routewright"]);
    cargo.env("CARGO_TARGET_DIR", directory.parent().unwrap_or(directory));
    if directory.ends_with("release") {
        cargo.arg("--release");
    }
    let built = cargo.status().map_err(LabError::system("building routewright"))?;
    if !built.success() {
        return Err(LabError::NotPossible {
            node: "routewright".to_owned(),
            reason: "it cannot be built".to_owned(),
        });
    }
    Ok(directory.join("routewright"))
}

/// A lab that goes when its owner goes, also by panic.
#[derive(Debug)]
pub struct TestLab {
    lab: Lab,
    labs: PathBuf,
}

impl TestLab {
    /// Makes a lab in a directory of the test's own. A lab that does not get ready stays until [`TestLab`]'s caller removes it, so
    /// it is removed here.
    pub fn up(topology: &Topology, labs: &Path, name: &str, fabric_only: bool) -> Result<TestLab, LabError> {
        let options = UpOptions {
            name: name.to_owned(),
            labs: labs.to_owned(),
            executable: executable()?,
            rootless: false,
            fabric_only,
            interrupted: None,
        };
        match Lab::up(topology, &options, &mut |_| {}) {
            Ok(lab) => Ok(TestLab {
                lab,
                labs: labs.to_owned(),
            }),
            Err(error) => {
                let _ = Lab::down(labs, name);
                Err(error)
            }
        }
    }
}

impl std::ops::Deref for TestLab {
    type Target = Lab;
    fn deref(&self) -> &Lab {
        &self.lab
    }
}

impl std::ops::DerefMut for TestLab {
    fn deref_mut(&mut self) -> &mut Lab {
        &mut self.lab
    }
}

impl Drop for TestLab {
    fn drop(&mut self) {
        let _ = Lab::down(&self.labs, self.lab.state().name.clone().as_str());
    }
}
