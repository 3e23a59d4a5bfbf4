//! BFD of an NVA.

use serde_saphyr::Spanned;

use super::Checker;
use crate::topology::file::BfdFile;
use crate::topology::{Bfd, Software};

impl Checker {
    pub(super) fn bfd(&mut self, file: &Spanned<BfdFile>, software: Software) -> Option<Bfd> {
        let BfdFile {
            interval_ms,
            multiplier,
            strict,
        } = file.value;
        if !software.speaks_bfd() {
            self.mistake(
                file,
                format!("bfd needs builtin, frr or bird; {} has none", software.name()),
            );
        }
        if !(50..=60_000).contains(&interval_ms) {
            self.mistake(file, "interval_ms is from 50 to 60000");
        }
        if multiplier < 2 {
            self.mistake(file, "multiplier is from 2 to 255");
        }
        Some(Bfd {
            interval_ms,
            multiplier,
            strict,
        })
    }
}
