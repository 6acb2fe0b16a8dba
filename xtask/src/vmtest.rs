//! Rung 4: test programs on stock Debian kernels, all of one kernel in one boot.

use std::time::Duration;

use anyhow::Result;

use crate::libtest::{Program, Rung, Tally};
use crate::proc::{self, Echo};
use crate::setup::{self, Tier};
use crate::test::{Args, Row, told};
use crate::vm::{self, Kernel};

/// The longest that one virtual machine may take, with all of its tests.
const LIMIT: Duration = Duration::from_secs(8 * 60);

/// A row for each kernel.
pub(crate) fn run(args: &Args, programs: &[Program]) -> Result<Vec<Row>> {
    let programs: Vec<&Program> = programs
        .iter()
        .filter(|program| program.target.rung == Rung::Vm)
        .collect();
    let ready = setup::ensure(&[Tier::Vm]);
    let mut rows = Vec::new();
    for &series in args.kernels() {
        let label = format!("vm {series}");
        eprintln!("== {label}: stock Debian kernel, processor emulated");
        // A kernel that is there can be used even if another one could not be fetched.
        rows.push(match (vm::find_kernel(series), &ready) {
            (Ok(kernel), _) => virtual_machine(label, &kernel, args, &programs)?,
            (Err(_), Err(error)) => Row::skipped(label, format!("{error:#}")),
            (Err(error), Ok(())) => Row::skipped(label, format!("{error:#}")),
        });
    }
    Ok(rows)
}

/// Boots one kernel and runs all programs of rung 4 on it.
fn virtual_machine(
    label: String,
    kernel: &Kernel,
    args: &Args,
    programs: &[&Program],
) -> Result<Row> {
    let script = script_of(&kernel.release, programs);
    let finished = vm::run_script(kernel, "test", &script, LIMIT, args.echo())?;
    let mut tally = Tally::default();
    for (name, part) in results(&finished.text, programs) {
        let success = part.is_some_and(|(_, code)| code == 0);
        let text = part.map_or("it did not run to its end", |(text, _)| text);
        let result = Tally::of(text, success);
        tally.add(result);
        eprintln!("   {name}: {}", told(result));
        if result.failed > 0 && args.echo() == Echo::Keep {
            eprintln!("{text}");
        }
    }
    if !finished.success() {
        eprintln!("   the virtual machine: {}", finished.ending());
        eprintln!("{}", proc::tail(&finished.text, 20));
    }
    Ok(Row::ran(label, tally, finished.elapsed))
}

/// Marks the begin and the end of a program's output in that of a virtual machine.
const MARK: &str = "@@bulkhead";

/// The check that a virtual machine is worth anything: the kernel asked for, with VLAN devices.
const VLAN_CHECK: &str = "vlan-devices";

/// What runs inside of the virtual machine.
fn script_of(release: &str, programs: &[&Program]) -> String {
    let check = format!(
        "sh -exc 'test \"$(uname -r)\" = {release}\n\
         ip link add bh0 type veth peer name bh1\n\
         ip link add link bh0 name bh0.100 type vlan id 100\n\
         ip -details link show bh0.100 | grep -q \"vlan protocol 802.1Q id 100\"\n\
         ip link delete bh0\n\
         echo \"test result: ok. 1 passed; 0 failed; 0 ignored\"'"
    );
    let mut script = String::from("export BULKHEAD_RUNG=vm RUST_BACKTRACE=1\n");
    let mut add = |name: &str, command: &str| {
        script += &format!(
            "echo; echo '{MARK} begin {name};'\n{command} 2>&1\ncode=$?\n\
             echo; echo \"{MARK} end {name}; $code\"\n"
        );
    };
    add(VLAN_CHECK, &check);
    for program in programs {
        let dir = vm::quote(&program.target.dir.display().to_string());
        let path = vm::quote(&program.path.display().to_string());
        let command = format!("( cd {dir} && CARGO_MANIFEST_DIR={dir} timeout -k 5 300 {path} )");
        add(&program.target.name, &command);
    }
    script
}

/// What a program wrote, and its exit status.
type Ended<'a> = Option<(&'a str, i32)>;

/// What each program wrote; `None` for one that did not end.
fn results<'a>(output: &'a str, programs: &[&'a Program]) -> Vec<(&'a str, Ended<'a>)> {
    std::iter::once(VLAN_CHECK)
        .chain(programs.iter().map(|program| program.target.name.as_str()))
        .map(|name| (name, result_of(output, name)))
        .collect()
}

/// What one program wrote between its marks.
fn result_of<'a>(output: &'a str, name: &str) -> Ended<'a> {
    let (_, rest) = output.split_once(&format!("{MARK} begin {name};"))?;
    let (text, rest) = rest.split_once(&format!("{MARK} end {name}; "))?;
    let code = rest.split_whitespace().next()?.parse().ok()?;
    Some((text, code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_of_a_virtual_machine_is_told_apart_by_its_marks() {
        let output = "noise\n@@bulkhead begin vm_ab;\nhello\n\n@@bulkhead end vm_ab; 0\n\
                      @@bulkhead begin vm_x;\nhalf";
        assert_eq!(result_of(output, "vm_ab"), Some(("\nhello\n\n", 0)));
        assert_eq!(result_of(output, "vm_a"), None);
        assert_eq!(result_of(output, "vm_x"), None);
        assert_eq!(result_of(output, "vm_y"), None);
    }

    #[test]
    fn a_failing_program_keeps_its_exit_status() {
        let output = "@@bulkhead begin a;\n@@bulkhead end a; 101\n";
        assert_eq!(result_of(output, "a"), Some(("\n", 101)));
    }
}
