//! The long form of the seeds' test: `soak [FIRST] [COUNT]`, a dot per seed, the finding and its history when there is one.

use std::io::Write;

fn main() -> Result<(), String> {
    let mut arguments = std::env::args()
        .skip(1)
        .filter_map(|argument| argument.parse::<u64>().ok());
    let first = arguments.next().unwrap_or(0);
    let count = arguments.next().unwrap_or(1_000);
    for seed in first..first + count {
        sim::random_history(seed, 6, 30)?;
        sim::crashes_only(seed, 20)?;
        print!(".");
        std::io::stdout().flush().map_err(|error| error.to_string())?;
    }
    println!("\n{count} seeds without a finding");
    Ok(())
}
