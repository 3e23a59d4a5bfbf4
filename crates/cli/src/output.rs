//! Results on stdout: tables for people, JSON as `az` shapes it for programs.

use std::io::{self, Write};

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Map, Value, json};

use crate::target::Output;

/// A column: its heading and the JSON pointer of its value (within the lifted object).
pub(crate) type Column = (&'static str, &'static str);

/// Prints a resource, a list, or nothing.
pub(crate) fn print(output: Output, columns: &[Column], result: &Value) -> io::Result<()> {
    let lifted = lift(result.get("value").filter(|value| value.is_array()).unwrap_or(result));
    if lifted.is_null() {
        return Ok(());
    }
    match output {
        Output::Json | Output::Yaml => print_whole(output, &lifted),
        Output::Table => {
            let rows: Vec<&Value> = match &lifted {
                Value::Array(rows) => rows.iter().collect(),
                one => vec![one],
            };
            print_table(columns, &rows)
        }
    }
}

/// Prints the whole of a value: as YAML if that is asked for, else as JSON.
pub(crate) fn print_whole(output: Output, value: &Value) -> io::Result<()> {
    match output {
        Output::Yaml => print_text(&serde_saphyr::to_string(value).map_err(io::Error::other)?),
        _ => print_json(value),
    }
}

/// Prints JSON as it is.
pub(crate) fn print_json(value: &Value) -> io::Result<()> {
    print_text(&format!("{value:#}\n"))
}

/// Prints text as it is. A closed pipe (`| head`) is no mistake: whoever read has seen enough.
pub(crate) fn print_text(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}

/// Prints rows; no rows, no heading, as `az` does.
pub(crate) fn print_table(columns: &[Column], rows: &[&Value]) -> io::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    print_text(&format!("{}\n", table(columns, rows)))
}

fn table(columns: &[Column], rows: &[&Value]) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(columns.iter().map(|(heading, _)| *heading));
    table.add_row(columns.iter().map(|(heading, _)| "-".repeat(heading.len())));
    for row in rows {
        table.add_row(columns.iter().map(|(_, pointer)| cell(row.pointer(pointer))));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 1));
    }
    let text = table.to_string();
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n")
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Bool(true)) => "True".to_owned(),
        Some(Value::Bool(false)) => "False".to_owned(),
        Some(Value::Array(items)) => items.iter().map(|item| cell(Some(item))).collect::<Vec<_>>().join(" "),
        Some(Value::Object(object)) => match object.get("id") {
            Some(Value::String(id)) => id.rsplit('/').next().unwrap_or_default().to_owned(),
            _ => Value::Object(object.clone()).to_string(),
        },
        Some(number) => number.to_string(),
    }
}

/// What `az` does to every resource: `properties` are lifted into it, and its group is named.
fn lift(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(lift).collect(),
        Value::Object(object) => {
            let mut lifted = Map::new();
            for (name, member) in object {
                match member {
                    Value::Object(properties) if name == "properties" => {
                        for (name, member) in properties {
                            lifted.entry(name).or_insert_with(|| lift(member));
                        }
                    }
                    _ => {
                        lifted.insert(name.clone(), lift(member));
                    }
                }
            }
            if let Some(group) = object.get("id").and_then(Value::as_str).and_then(group_of) {
                lifted.insert("resourceGroup".to_owned(), json!(group));
            }
            Value::Object(lifted)
        }
        other => other.clone(),
    }
}

fn group_of(id: &str) -> Option<&str> {
    let mut segments = id.split('/');
    segments.find(|segment| segment.eq_ignore_ascii_case("resourceGroups"))?;
    let group = segments.next()?;
    // A group itself has no group.
    segments.next().map(|_| group)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_lifted_as_az_does() {
        let resource = json!({
            "id": "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/virtualHubs/rs",
            "name": "rs",
            "properties": { "virtualRouterAsn": 65515, "subnets": [{ "name": "a", "properties": { "addressPrefix": "10.0.0.0/24" } }] },
        });
        let lifted = lift(&resource);
        assert_eq!(lifted["virtualRouterAsn"], 65515);
        assert_eq!(lifted["resourceGroup"], "g");
        assert_eq!(lifted["subnets"][0]["addressPrefix"], "10.0.0.0/24");
        assert_eq!(lifted.get("properties"), None);
        assert_eq!(
            lift(&json!({ "id": "/subscriptions/s/resourceGroups/g" })).get("resourceGroup"),
            None
        );
    }

    #[test]
    fn tables_have_a_line_under_their_headings_and_no_trailing_blanks() {
        let rows = [
            json!({ "name": "a", "list": [1, 2], "yes": true }),
            json!({ "name": "longer" }),
        ];
        let rows: Vec<&Value> = rows.iter().collect();
        let columns = [("Name", "/name"), ("List", "/list"), ("Yes", "/yes")];
        let text = table(&columns, &rows);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0], ["Name", "List", "Yes"]);
        assert_eq!(lines[1], ["----", "----", "---"]);
        assert_eq!(lines[2], ["a", "1", "2", "True"]);
        assert_eq!(lines[3], ["longer"]);
        assert!(text.lines().all(|line| line.trim_end() == line));
    }
}
