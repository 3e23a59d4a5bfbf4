//! BFD and graceful restart of an NVA.

use serde_saphyr::Spanned;

use super::Checker;
use crate::topology::file::{BfdFile, GracefulRestartFile};
use crate::topology::{Bfd, GracefulRestart, Software};

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

    pub(super) fn graceful_restart(
        &mut self,
        file: &Spanned<GracefulRestartFile>,
        software: Software,
    ) -> GracefulRestart {
        let GracefulRestartFile {
            restart_secs,
            long_lived_secs,
        } = file.value;
        if !software.restarts_gracefully() {
            self.mistake(file, "graceful_restart: external software is yours to configure");
        }
        if long_lived_secs > 0 && !software.knows_long_lived() {
            let name = software.name();
            self.mistake(
                file,
                format!("long_lived_secs needs builtin, frr, bird or gobgp; {name} has no RFC 9494"),
            );
        }
        if !(1..=bgp::wire::MAX_RESTART_TIME_SECS).contains(&restart_secs) {
            self.mistake(file, "restart_secs is from 1 to 4095");
        }
        if long_lived_secs > bgp::wire::MAX_STALE_TIME_SECS {
            self.mistake(file, "long_lived_secs is at most 16777215");
        }
        GracefulRestart {
            restart_secs,
            long_lived_secs,
        }
    }
}
