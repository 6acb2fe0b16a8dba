//! The binary `bulkhead`.

use std::process::ExitCode;

fn main() -> ExitCode {
    dataplane_user::cli::run()
}
