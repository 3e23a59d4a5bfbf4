//! `docs/fidelity.md` says which rule is refused with which code, and which test shows it: every code and test there must exist.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn every_rule_of_the_list_has_a_code_and_a_test_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let sources = text_under(&[&root.join("crates/arm"), &root.join("crates/daemon/src/manager")]);
    let list = fs::read_to_string(root.join("docs/fidelity.md")).unwrap();
    let rows = rows(&list);
    assert!(rows.len() >= 40, "the list has only {} rows", rows.len());
    for (codes, tests) in rows {
        for code in codes {
            assert!(
                sources.contains(&format!("\"{code}\"")),
                "no source has the code {code}"
            );
        }
        for test in tests {
            assert!(sources.contains(&format!("fn {test}(")), "there is no test {test}");
        }
    }
}

/// Codes and tests of each row of the tables with a column for tests.
fn rows(list: &str) -> Vec<(BTreeSet<String>, BTreeSet<String>)> {
    let mut in_table = false;
    let mut found = Vec::new();
    for line in list.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        match cells[..] {
            ["", _, "code", "shown by", ""] => in_table = true,
            ["", rule, code, test, ""] if in_table && !rule.starts_with("---") => {
                found.push((quoted(code), quoted(test)))
            }
            ["", ..] => {}
            _ => in_table = false,
        }
    }
    found
}

fn quoted(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn text_under(folders: &[&PathBuf]) -> String {
    let mut text = String::new();
    let mut waiting: Vec<PathBuf> = folders.iter().map(|folder| folder.to_path_buf()).collect();
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
    text
}
