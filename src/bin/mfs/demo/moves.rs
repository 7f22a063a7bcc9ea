//! The chapter of the demo in which jobs move: two computations go over all nodes, and their digits stay what they are.

use anyhow::ensure;

use super::stage::{Begun, Scene, Stage};
use crate::out::line;

/// A computation that is a job, and the same without mfs.
struct Computation {
    /// Again and again until it has moved, each result counted: all are equal if there is one line.
    job: &'static str,
    plain: &'static str,
}

const COMPUTATIONS: [Computation; 2] = [
    Computation {
        job: "mfs run -n n2 -- sh -c 'until awk \"BEGIN {for (i = 0; i < 2000; i++) \
              for (j = 0; j < 2000; j++) sum += i * j % 7; print sum}\"; test -e /data/enough; do :; done | uniq -c'",
        plain: "awk 'BEGIN {for (i = 0; i < 2000; i++) for (j = 0; j < 2000; j++) sum += i * j % 7; print sum}'",
    },
    Computation {
        job: "mfs run -n n2 -- sh -c 'export BC_LINE_LENGTH=0; until \
              echo \"scale=1500; 4*a(1)\" | bc -l; test -e /data/enough; do :; done | uniq -c'",
        plain: "echo 'scale=1500; 4*a(1)' | BC_LINE_LENGTH=0 bc -l",
    },
];

/// The ways of both jobs, which are the first of n1.
const MOVES: [&str; 6] = [
    "mfs migrate n1.1 n3 2>&1 || true",
    "mfs migrate n1.2 n3",
    "mfs migrate n1.1 home",
    "mfs migrate n1.2 home",
    "mfs migrate n1.1 n2",
    "mfs migrate n1.2 n3",
];

/// Shows it; where there is no CRIU, that the jobs stay where they began.
pub(super) async fn show(stage: &Stage) -> anyhow::Result<()> {
    let begin = |computation: &Computation| stage.begin(Scene::new("n1", computation.job));
    let jobs: Vec<Begun> = COMPUTATIONS.iter().map(begin).collect::<anyhow::Result<_>>()?;
    let both = "until [ \"$(mfs ps | grep -c running)\" = 2 ]; do sleep 0.1; done; mfs ps";
    stage.play_one(Scene::new("n1", both)).await?;
    for (number, script) in MOVES.into_iter().enumerate() {
        let said = stage.play_one(Scene::new("n1", script)).await?;
        if number == 0 && !said.contains("runs on node") {
            ensure!(said.to_lowercase().contains("criu"), "the job does not move");
            line("(so no job moves here; scripts/criu unpacks a CRIU, and all else goes on)")?;
            break;
        }
    }
    stage.play_one(Scene::new("n1", "mfs ps")).await?;
    stage.play_one(Scene::new("n1", "echo >/data/enough")).await?;
    for (computation, job) in COMPUTATIONS.iter().zip(jobs) {
        let counted = job.end().await?;
        let plain = stage.play_one(Scene::new("n1", computation.plain)).await?;
        let result = counted.split_whitespace().skip(1);
        ensure!(result.eq([plain.trim()]), "the job gives other digits");
    }
    line("(each digit of each round as without a move)")
}
