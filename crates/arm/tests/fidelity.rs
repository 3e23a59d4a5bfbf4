//! `docs/fidelity.md` says which rule is refused with which code, how the network behaves, and which test shows it: every code and test
//! there must exist.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn every_rule_of_the_list_has_a_code_and_a_test_that_exist() {
    let sources = text_under(&["crates/arm", "crates/daemon/src/manager"]);
    let rows = rows(&["rule", "code", "shown by"]);
    assert!(rows.len() >= 40, "the list has only {} rows", rows.len());
    let mut unseen = Vec::new();
    for row in rows {
        check_tests(&row[2], &sources);
        // It is one of the row's tests that must have seen the code, not any line somewhere.
        let tests: String = quoted(&row[2]).iter().map(|test| body_of(test, &sources)).collect();
        for code in quoted(&row[1]) {
            if !tests.contains(&format!("\"{code}\"")) {
                unseen.push(format!("{}: {code} is in none of its tests", row[0]));
            }
        }
    }
    assert!(unseen.is_empty(), "{}", unseen.join("\n"));
}

#[test]
fn every_fact_of_the_list_has_a_test_that_exists_or_says_why_it_does_not_hold() {
    let sources = text_under(&["crates"]);
    let rows = rows(&["fact", "shown by", "different here, and why"]);
    assert!(rows.len() >= 20, "the list has only {} rows", rows.len());
    for row in rows {
        assert!(
            !row[1].is_empty() || !row[2].is_empty(),
            "nothing is said of: {}",
            row[0]
        );
        check_tests(&row[1], &sources);
    }
}

fn check_tests(cell: &str, sources: &str) {
    for test in quoted(cell) {
        assert!(sources.contains(&format!("fn {test}(")), "there is no test {test}");
    }
}

/// The source of a test: to the brace that closes it at the depth at which it was opened.
fn body_of<'s>(test: &str, sources: &'s str) -> &'s str {
    let Some(start) = sources.find(&format!("fn {test}(")) else {
        return "";
    };
    let line = sources[..start].rfind('\n').map_or(0, |end| end + 1);
    let indent: String = sources[line..].chars().take_while(|c| *c == ' ').collect();
    let rest = &sources[start..];
    let end = rest.find(&format!("\n{indent}}}\n"));
    &rest[..end.unwrap_or(rest.len())]
}

/// The rows of the tables in `docs/fidelity.md` with these columns.
fn rows(columns: &[&str; 3]) -> Vec<[String; 3]> {
    let list = fs::read_to_string(root().join("docs/fidelity.md")).unwrap();
    let mut in_table = false;
    let mut found = Vec::new();
    for line in list.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        match cells[..] {
            ["", a, b, c, ""] if [a, b, c] == *columns => in_table = true,
            ["", a, b, c, ""] if in_table && !a.starts_with("---") => found.push([a, b, c].map(str::to_owned)),
            ["", ..] => {}
            _ => in_table = false,
        }
    }
    found
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn quoted(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn text_under(folders: &[&str]) -> String {
    let mut text = String::new();
    let mut waiting: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
    text
}
