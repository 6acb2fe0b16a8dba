//! Rung 4: test programs on stock Debian kernels, all of one kernel in one boot, all kernels at once.
//!
//! They are those of `tests/vm_*.rs`, and those that a package names in `package.metadata.vm-tests`:
//! the same executables as on this machine's kernel, with fewer tests or cases where emulation makes them slow.
//! What takes minutes there runs on the kernel that has most to say to it, and on all of them with `--full` or by name.

use std::fmt::Write as _;
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::deb;
use crate::lacks::{self, Lack};
use crate::libtest::{Program, Rung, Tally};
use crate::proc::{self, Echo};
use crate::setup::{self, Tier};
use crate::test::{Args, PROFILE, Row, told};
use crate::vm::{self, Kernel};

/// The longest that one virtual machine may take.
const LIMIT: Duration = Duration::from_secs(40 * 60);
/// The same with every program on every kernel.
const FULL_LIMIT: Duration = Duration::from_secs(3 * 60 * 60);
/// The longest that one program may take there.
const PROGRAM_SECONDS: u32 = 1200;

/// A row for each kernel. A machine has one processor, so several run side by side.
pub(crate) fn run(args: &Args, programs: &[Program]) -> Result<Vec<Row>> {
    let programs: Vec<&Program> = programs
        .iter()
        .filter(|program| program.target.runs_on(Rung::Vm))
        .collect();
    let ready = setup::ensure(&[Tier::Vm]);
    let debs = packages(&programs)?;
    let (programs, ready, debs) = (&programs, &ready, &debs);
    thread::scope(|scope| {
        let machines: Vec<_> = args
            .kernels()
            .iter()
            .map(|&series| {
                let label = format!("vm {series}");
                eprintln!("== {label}: stock Debian kernel, processor emulated");
                let (now, asked_for): (Vec<&Program>, Vec<&Program>) = programs
                    .iter()
                    .partition(|program| args.everywhere() || program.target.is_due(series));
                // A kernel that is there can be used even if another one could not be fetched.
                scope.spawn(move || match (vm::find_kernel(series), ready) {
                    (Ok(kernel), _) => {
                        let row = virtual_machine(label, &kernel, args, (&now, debs))?;
                        let names: Vec<&str> = asked_for
                            .iter()
                            .map(|program| program.target.name.as_str())
                            .collect();
                        Ok(row.without(&names, "with --full"))
                    }
                    (Err(_), Err(error)) => Ok(Row::skipped(label, format!("{error:#}"))),
                    (Err(error), Ok(())) => Ok(Row::skipped(label, format!("{error:#}"))),
                })
            })
            .collect();
        machines
            .into_iter()
            .map(|machine| {
                machine
                    .join()
                    .unwrap_or_else(|_| bail!("a machine's thread panicked"))
            })
            .collect()
    })
}

/// The test of the package gets two of them: `BULKHEAD_DEBS=OLD:NEW`.
const PACKAGE_TEST: &str = "vm_package";

/// Makes them; the line of the script that names them.
fn packages(programs: &[&Program]) -> Result<String> {
    let mut names = programs.iter().map(|program| &program.target.name);
    if !names.any(|name| name == PACKAGE_TEST) {
        return Ok(String::new());
    }
    eprintln!("== the Debian package, twice: one is upgraded to the other");
    deb::build(PROFILE)?;
    let (old, new) = (deb::pack(Some("0.0.1"))?, deb::pack(Some("0.0.2"))?);
    let debs = format!("{}:{}", old.display(), new.display());
    Ok(format!("export BULKHEAD_DEBS={}\n", vm::quote(&debs)))
}

/// Boots one kernel, runs all programs of rung 4 on it and says what they did.
fn virtual_machine(
    label: String,
    kernel: &Kernel,
    args: &Args,
    (programs, debs): (&[&Program], &str),
) -> Result<Row> {
    let lacks = lacks::of(&kernel.release);
    let script = format!("{debs}{}", script_of(&kernel.release, programs, &lacks));
    let limit = if args.everywhere() { FULL_LIMIT } else { LIMIT };
    let directory = label.replace(' ', "-");
    let finished = vm::run_script(kernel, &directory, &script, limit, args.echo())?;
    let mut tally = Tally::default();
    let mut said = format!("== {label}: {}\n", proc::seconds(finished.elapsed));
    for (name, part) in results(&finished.text, programs) {
        let success = part.as_ref().is_some_and(|part| part.code == 0);
        let text = part.as_ref().map_or(DIED, |part| part.text);
        let result = Tally::of(text, success);
        tally.add(result);
        let took = part.as_ref().map_or("?", |part| part.seconds);
        writeln!(said, "   {name}: {} ({took} s)", told(result))?;
        if result.failed > 0 && args.echo() == Echo::Keep {
            writeln!(said, "{text}")?;
        }
    }
    if !finished.success() {
        writeln!(said, "   the virtual machine: {}", finished.ending())?;
        writeln!(said, "{}", proc::tail(&finished.text, 20))?;
    }
    // All of it in one piece: another machine talks at the same time.
    eprint!("{said}");
    Ok(Row::ran(label, tally, finished.elapsed).lacking(&lacks))
}

/// Marks the begin and the end of a program's output in that of a virtual machine.
const MARK: &str = "@@bulkhead";

/// The check that a virtual machine is worth anything: the kernel asked for, with VLAN devices.
const VLAN_CHECK: &str = "vlan-devices";

/// What runs inside of the virtual machine.
fn script_of(release: &str, programs: &[&Program], lacks: &[Lack]) -> String {
    let check = format!(
        "sh -exc 'test \"$(uname -r)\" = {release}\n\
         ip link add bh0 type veth peer name bh1\n\
         ip link add link bh0 name bh0.100 type vlan id 100\n\
         ip -details link show bh0.100 | grep -q \"vlan protocol 802.1Q id 100\"\n\
         ip link delete bh0\n\
         echo \"test result: ok. 1 passed; 0 failed; 0 ignored\"'"
    );
    let mut script = String::from("export BULKHEAD_RUNG=vm\n");
    let mut add = |name: &str, command: &str| {
        script += &format!(
            "echo; echo '{MARK} begin {name};'\nbegin=$(date +%s)\n{command} 2>&1\ncode=$?\n\
             echo; echo \"{MARK} end {name}; $code $(($(date +%s) - begin))\"\n"
        );
    };
    add(VLAN_CHECK, &check);
    for program in programs {
        let command = command_of(program, lacks);
        add(&program.target.name, &command);
    }
    script
}

/// The command that runs a program as cargo would.
fn command_of(program: &Program, lacks: &[Lack]) -> String {
    let dir = vm::quote(&program.target.dir.display().to_string());
    let path = vm::quote(&program.path.display().to_string());
    let run = program.target.vm.clone().unwrap_or_default();
    let env = run.env.iter().map(|(key, value)| (key.as_str(), value));
    let threads = program.target.threads();
    let env: String = env
        .chain(threads.as_ref().map(|(key, value)| (*key, value)))
        .map(|(key, value)| format!(" {key}={}", vm::quote(value)))
        .collect();
    let only: String = run.only.iter().map(|word| format!(" {word}")).collect();
    let skips: String = lacks::skips(lacks).map(|word| format!(" {word}")).collect();
    format!(
        "( cd {dir} && env CARGO_MANIFEST_DIR={dir}{env} timeout -k 5 {PROGRAM_SECONDS} {path}{only}{skips} )"
    )
}

/// What a program that ended left.
#[derive(Debug, Eq, PartialEq)]
struct Ended<'a> {
    /// What it wrote.
    text: &'a str,
    /// Its exit status.
    code: i32,
    /// How long it took.
    seconds: &'a str,
}

/// What is said of a program that did not end.
const DIED: &str = "it did not run to its end";

/// What each program wrote; `None` for one that did not end.
fn results<'a>(output: &'a str, programs: &[&'a Program]) -> Vec<(&'a str, Option<Ended<'a>>)> {
    std::iter::once(VLAN_CHECK)
        .chain(programs.iter().map(|program| program.target.name.as_str()))
        .map(|name| (name, result_of(output, name)))
        .collect()
}

/// What one program wrote between its marks.
fn result_of<'a>(output: &'a str, name: &str) -> Option<Ended<'a>> {
    let (_, rest) = output.split_once(&format!("{MARK} begin {name};"))?;
    let (text, rest) = rest.split_once(&format!("{MARK} end {name}; "))?;
    let mut words = rest.split_whitespace();
    Some(Ended {
        text,
        code: words.next()?.parse().ok()?,
        seconds: words.next()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_of_a_virtual_machine_is_told_apart_by_its_marks() {
        let output = "noise\n@@bulkhead begin vm_ab;\nhello\n\n@@bulkhead end vm_ab; 0 7\n\
                      @@bulkhead begin vm_x;\nhalf";
        let ended = Ended {
            text: "\nhello\n\n",
            code: 0,
            seconds: "7",
        };
        assert_eq!(result_of(output, "vm_ab"), Some(ended));
        assert_eq!(result_of(output, "vm_a"), None);
        assert_eq!(result_of(output, "vm_x"), None);
        assert_eq!(result_of(output, "vm_y"), None);
    }

    #[test]
    fn a_failing_program_keeps_its_exit_status() {
        let output = "@@bulkhead begin a;\n@@bulkhead end a; 101 0\n";
        assert_eq!(result_of(output, "a").map(|ended| ended.code), Some(101));
    }
}
