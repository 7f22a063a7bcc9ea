//! What the demo shows, chapter by chapter.

use std::time::Duration;

use anyhow::ensure;
use mfs::clock;

use super::moves;
use super::stage::{Scene, Stage};
use crate::out::line;

/// Chapters that were shown, and how long each took.
type Record = Vec<(&'static str, Duration)>;

const PROJECT: &str = include_str!("project.sh");

/// Shows everything on a lab of its own, which stays up.
pub(super) async fn run(stage: &Stage) -> anyhow::Result<()> {
    let mut record = Record::new();
    chapter(&mut record, "three nodes form a cluster", cluster(stage)).await?;
    chapter(&mut record, "n2 builds a C program whose sources lie on n1", build(stage)).await?;
    chapter(&mut record, "n3 clones a git repository of n1 and pushes to it", git(stage)).await?;
    chapter(&mut record, "n2 and n3 share a sqlite database of n1", database(stage)).await?;
    chapter(&mut record, "jobs of n1 run on others, and move if there is CRIU", moves::show(stage))
        .await?;
    chapter(&mut record, "the power of n3 is cut, and comes back", power_cut(stage)).await?;
    line("\nWhat was shown:")?;
    for (title, took) in &record {
        line(format_args!("  {:6.1} s  {title}", took.as_secs_f64()))?;
    }
    Ok(())
}

async fn chapter(
    record: &mut Record,
    title: &'static str,
    scenes: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    line(format_args!("\n--- {}. {title} ---", record.len() + 1))?;
    let started = clock::now();
    scenes.await?;
    record.push((title, clock::now().duration_since(started)));
    Ok(())
}

async fn cluster(stage: &Stage) -> anyhow::Result<()> {
    stage.raise(3).await?;
    stage.play_one(Scene::new("n1", "mfs nodes")).await?;
    stage.play_one(Scene::new("n1", "cat /etc/fstab")).await?;
    stage.play_one(Scene::new("n1", "ls -x /mfs && ls -x /mfs/n2")).await?;
    let greeting = "echo 'hello from n1' >/mfs/n2/root/greeting";
    stage.play_one(Scene::new("n1", greeting)).await?;
    let read = stage.play_one(Scene::new("n2", "cat /root/greeting")).await?;
    ensure!(read.trim() == "hello from n1", "n2 does not see what n1 wrote");
    Ok(())
}

async fn build(stage: &Stage) -> anyhow::Result<()> {
    let write = Scene {
        node: "n1",
        script: "sh -s /data/project && ls /data/project | wc -l",
        input: Some((PROJECT, "(writes a C project of 23 files to /data/project)")),
    };
    stage.play_one(write).await?;
    let make = "make -j2 -C /mfs/n1/data/project";
    stage.play_one(Scene::new("n2", make)).await?;
    let ran = stage.play_one(Scene::new("n3", "/mfs/n1/data/project/squares")).await?;
    ensure!(ran.trim().ends_with("is 2870"), "the program computes {ran:?}");
    let again = stage.play_one(Scene::new("n1", "make -C /data/project")).await?;
    ensure!(again.contains("up to date"), "n1 would build again what n2 has built");
    Ok(())
}

async fn git(stage: &Stage) -> anyhow::Result<()> {
    let commit = "cd /data/project && git init -q -b main && git add '*.c' '*.h' Makefile && \
                  git -c user.name=n1 -c user.email=root@n1 commit -q -m 'Add the squares' && \
                  git log --oneline";
    stage.play_one(Scene::new("n1", commit)).await?;
    let clone = "git clone -q /mfs/n1/data/project /root/clone && cd /root/clone && \
                 git fsck --strict && git log --oneline && ls | wc -l";
    stage.play_one(Scene::new("n3", clone)).await?;
    let push = "cd /root/clone && echo 'int answer = 42;' >answer.c && git add answer.c && \
                git -c user.name=n3 -c user.email=root@n3 commit -q -m 'Add the answer' && \
                git push -q origin HEAD:refs/heads/from-n3";
    stage.play_one(Scene::new("n3", push)).await?;
    let log = "cd /data/project && git log --oneline from-n3 && git fsck";
    let log = stage.play_one(Scene::new("n1", log)).await?;
    ensure!(log.contains("Add the answer"), "n1 does not see what n3 pushed");
    Ok(())
}

async fn database(stage: &Stage) -> anyhow::Result<()> {
    let create = "sqlite3 /mfs/n1/data/demo.db 'create table numbers(n integer); \
                  with recursive c(n) as (select 1 union all select n + 1 from c where n < 10000) \
                  insert into numbers select n from c; create table counter(n integer); \
                  insert into counter values (0)'";
    stage.play_one(Scene::new("n2", create)).await?;
    let sum = "sqlite3 /mfs/n1/data/demo.db 'select count(*), sum(n) from numbers'";
    let sum = stage.play_one(Scene::new("n3", sum)).await?;
    ensure!(sum.trim() == "10000|50005000", "n3 reads {sum:?}");
    line("(now n2 and n3 add to one counter at the same time)")?;
    let add = "for i in $(seq 20); do sqlite3 -cmd '.timeout 60000' /mfs/n1/data/demo.db \
               'update counter set n = n + 1' || exit 1; done";
    stage.play(&[Scene::new("n2", add), Scene::new("n3", add)]).await?;
    let check = "sqlite3 /data/demo.db 'select n from counter; pragma integrity_check'";
    let check = stage.play_one(Scene::new("n1", check)).await?;
    ensure!(check.split_ascii_whitespace().eq(["40", "ok"]), "n1 finds {check:?}");
    Ok(())
}

async fn power_cut(stage: &Stage) -> anyhow::Result<()> {
    stage.act("kill", "n3").await?;
    let look = "ls /mfs; ls -d /mfs/n2/root; ls /mfs/n3/root 2>&1 || true";
    let look = stage.play_one(Scene::new("n1", look)).await?;
    ensure!(look.contains("Host is down"), "n1 does not notice that n3 is down");
    stage.act("start", "n3").await?;
    let back = "until ls -d /mfs/n3/root 2>/dev/null; do sleep 0.2; done";
    stage.play_one(Scene::new("n1", back)).await?;
    Ok(())
}
