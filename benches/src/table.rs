//! Tables for people: a name and its figures per line.

type Cell<'a, R> = Box<dyn Fn(&R) -> String + 'a>;

/// A column: its title, and what it shows of a row.
pub(crate) struct Column<'a, R> {
    title: &'a str,
    cell: Cell<'a, R>,
}

impl<'a, R> Column<'a, R> {
    pub(crate) fn new(title: &'a str, cell: impl Fn(&R) -> String + 'a) -> Column<'a, R> {
        Column {
            title,
            cell: Box::new(cell),
        }
    }
}

/// The columns of a table.
pub(crate) struct Table<'a, R> {
    columns: Vec<Column<'a, R>>,
}

impl<'a, R> Table<'a, R> {
    pub(crate) fn new(columns: Vec<Column<'a, R>>) -> Table<'a, R> {
        Table { columns }
    }

    /// Prints the rows as Markdown, so that they can be copied into a document.
    pub(crate) fn print<'r>(&self, rows: impl Iterator<Item = (&'r str, &'r R)>)
    where
        R: 'r,
    {
        let titles: Vec<&str> = self.columns.iter().map(|column| column.title).collect();
        println!("| | {} |", titles.join(" | "));
        println!("|---|{}", "---|".repeat(titles.len()));
        for (name, row) in rows {
            let cells: Vec<String> = self.columns.iter().map(|column| (column.cell)(row)).collect();
            println!("| {name} | {} |", cells.join(" | "));
        }
    }
}
