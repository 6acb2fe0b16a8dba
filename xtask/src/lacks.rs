//! What a kernel lacks, so that tests of it cannot run there: they are skipped, and it is said.

/// Something that is missing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Lack {
    /// Tests that need it have this in their name.
    pub(crate) word: &'static str,
    /// What is missing.
    pub(crate) why: &'static str,
    /// The first version that has it.
    since: (u32, u32),
}

/// Everything that a supported kernel may lack. A test of it fails on any other kernel without it.
const LACKS: &[Lack] = &[Lack {
    word: "tcx",
    why: "no TCX before Linux 6.6",
    since: (6, 6),
}];

/// What a kernel lacks, by its release as `uname -r` tells it.
pub(crate) fn of(release: &str) -> Vec<Lack> {
    // A release that cannot be read lacks nothing: then the tests say what is missing.
    let Some(version) = version(release) else {
        return Vec::new();
    };
    let lacks = LACKS.iter().filter(|lack| version < lack.since);
    lacks.copied().collect()
}

/// The arguments that let a test program leave those tests out.
pub(crate) fn skips(lacks: &[Lack]) -> impl Iterator<Item = &'static str> {
    lacks.iter().flat_map(|lack| ["--skip", lack.word])
}

/// Major and minor number of a release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut next = || numbers.next()?.parse().ok();
    Some((next()?, next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tcx_came_with_6_6() {
        for (release, lacks_tcx) in [
            ("6.1.0-56-amd64", true),
            ("6.5.13", true),
            ("6.6.0", false),
            ("6.12.117+deb12-amd64", false),
            ("6.18-rc1", false),
            ("7.0.1", false),
            ("unknown", false),
        ] {
            let found = of(release).iter().any(|lack| lack.word == "tcx");
            assert_eq!(found, lacks_tcx, "{release}");
        }
    }

    #[test]
    fn skipped_tests_are_named_to_the_test_program() {
        let arguments: Vec<_> = skips(&of("6.1.0")).collect();
        assert_eq!(arguments, ["--skip", "tcx"]);
    }
}
