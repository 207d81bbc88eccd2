#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <thread>

#include "agent/source/directory.h"

namespace egress::source {
namespace {

namespace fs = std::filesystem;
using Change = DirectorySource::Change;

class Directory : public testing::Test {
 protected:
  Directory() {
    std::string pattern = fs::temp_directory_path() / "directory-source-XXXXXX";
    root_ = ::mkdtemp(pattern.data());
    dir_ = root_ / "manifests";
    fs::create_directory(dir_);
  }
  ~Directory() override { fs::remove_all(root_); }

  void Open() {
    auto source = DirectorySource::Open(dir_.string());
    ASSERT_TRUE(source.ok()) << source.error().message;
    source_ = std::move(*source);
  }

  static void Write(const fs::path& path, const std::string& text) { std::ofstream(path) << text; }

  bool Readable(int timeout_ms = 0) {
    pollfd waiting{source_->fd(), POLLIN, 0};
    return ::poll(&waiting, 1, timeout_ms) == 1;
  }

  // What is said, as "name=text", "name!" (error) or "name-" (gone).
  std::string Poll() {
    auto changes = source_->Poll();
    if (!changes.ok()) return "error";
    std::string said;
    for (const Change& change : *changes) {
      if (!said.empty()) said += ' ';
      said += change.file_name + (change.text ? "=" + *change.text : change.error ? "!" : "-");
    }
    return said;
  }

  fs::path root_;
  fs::path dir_;
  std::unique_ptr<DirectorySource> source_;
};

TEST_F(Directory, OneThatIsMissingIsAnErrorThatNamesIt) {
  const auto source = DirectorySource::Open((root_ / "nothing").string());
  ASSERT_FALSE(source.ok());
  EXPECT_NE(source.error().message.find((root_ / "nothing").string()), std::string::npos);
}

TEST_F(Directory, OneThatIsAFileIsAnError) {
  Write(root_ / "file", "x");
  EXPECT_FALSE(DirectorySource::Open((root_ / "file").string()).ok());
}

TEST_F(Directory, TheFirstPollGivesAllManifestsAndNothingElse) {
  Write(dir_ / "b.yaml", "2");
  Write(dir_ / "a.yml", "1");
  Write(dir_ / "c.json", "3");
  Write(dir_ / ".hidden.yaml", "x");
  Write(dir_ / "notes.txt", "x");
  Write(dir_ / "a.yaml~", "x");
  fs::create_directory(dir_ / "sub.yaml");
  Write(dir_ / "sub.yaml" / "d.yaml", "x");
  Open();
  EXPECT_EQ(Poll(), "a.yml=1 b.yaml=2 c.json=3");
  EXPECT_EQ(Poll(), "");
}

TEST_F(Directory, ATrailingSlashChangesNothing) {
  Write(dir_ / "a.yaml", "1");
  auto source = DirectorySource::Open(dir_.string() + "/");
  ASSERT_TRUE(source.ok());
  source_ = std::move(*source);
  EXPECT_EQ(Poll(), "a.yaml=1");
  fs::rename(dir_, root_ / "old");
  EXPECT_EQ(Poll(), "error");
  fs::rename(root_ / "old", dir_);
  EXPECT_TRUE(Readable());
}

TEST_F(Directory, AFileIsReadWhenItsWriterClosesItAndNotBefore) {
  Open();
  Poll();
  std::ofstream writer(dir_ / "a.yaml");
  writer << "half " << std::flush;
  EXPECT_EQ(Poll(), "");
  writer << "whole";
  writer.close();
  EXPECT_TRUE(Readable());
  EXPECT_EQ(Poll(), "a.yaml=half whole");
}

TEST_F(Directory, AFileThatIsWrittenAgainBeforeItWasReadIsReadWhenTheLastWriterClosesIt) {
  Open();
  Poll();
  Write(dir_ / "a.yaml", "first");
  std::ofstream writer(dir_ / "a.yaml");
  writer << "sec" << std::flush;
  EXPECT_EQ(Poll(), "");
  writer << "ond" << std::flush;
  writer.close();
  EXPECT_EQ(Poll(), "a.yaml=second");
}

TEST_F(Directory, AFileThatIsEmptiedIsSaidToBeEmpty) {
  Write(dir_ / "a.yaml", "1");
  Open();
  Poll();
  Write(dir_ / "a.yaml", "");
  EXPECT_EQ(Poll(), "a.yaml=");
  EXPECT_FALSE(Readable());
}

TEST_F(Directory, RenamingIntoPlaceReplaces) {
  Write(dir_ / "a.yaml", "old");
  Open();
  Poll();
  Write(dir_ / ".a.yaml.tmp", "new");
  fs::rename(dir_ / ".a.yaml.tmp", dir_ / "a.yaml");
  EXPECT_EQ(Poll(), "a.yaml=new");
}

TEST_F(Directory, RenamingAwayAndDeletingRemove) {
  Write(dir_ / "a.yaml", "1");
  Write(dir_ / "b.yaml", "2");
  Write(dir_ / "c.yaml", "3");
  Open();
  Poll();
  fs::rename(dir_ / "a.yaml", dir_ / "a.yaml.off");
  fs::remove(dir_ / "b.yaml");
  fs::rename(dir_ / "c.yaml", dir_ / "d.yaml");
  EXPECT_EQ(Poll(), "a.yaml- b.yaml- c.yaml- d.yaml=3");
}

TEST_F(Directory, SeveralChangesOfOneFileAreOne) {
  Open();
  Poll();
  for (int i = 0; i < 10; ++i) Write(dir_ / "a.yaml", std::to_string(i));
  Write(dir_ / "gone.yaml", "x");
  fs::remove(dir_ / "gone.yaml");
  EXPECT_EQ(Poll(), "a.yaml=9");
  EXPECT_FALSE(Readable());
}

TEST_F(Directory, LinksAreFollowedWhenTheyComeAndADanglingOneIsAnError) {
  Write(root_ / "target", "linked");
  Open();
  Poll();
  fs::create_symlink(root_ / "target", dir_ / "soft.yaml");
  fs::create_hard_link(root_ / "target", dir_ / "hard.yaml");
  fs::create_symlink(root_ / "nowhere", dir_ / "dangling.yaml");
  EXPECT_EQ(Poll(), "dangling.yaml! hard.yaml=linked soft.yaml=linked");
  fs::remove(dir_ / "dangling.yaml");
  EXPECT_EQ(Poll(), "dangling.yaml-");
}

TEST_F(Directory, AMountedConfigMapChangesAllItsFilesAtOnce) {
  const auto version = [this](const std::string& name, const std::map<std::string, std::string>& files) {
    fs::create_directory(dir_ / name);
    for (const auto& [file, text] : files) Write(dir_ / name / file, text);
    fs::create_symlink(name, dir_ / "..data_tmp");
    fs::rename(dir_ / "..data_tmp", dir_ / "..data");
    for (const auto& [file, text] : files) {
      if (!fs::is_symlink(dir_ / file)) fs::create_symlink("..data/" + file, dir_ / file);
    }
  };
  version("..1", {{"a.yaml", "a1"}, {"b.yaml", "b1"}});
  Open();
  EXPECT_EQ(Poll(), "a.yaml=a1 b.yaml=b1");
  version("..2", {{"a.yaml", "a2"}, {"c.yaml", "c2"}});
  fs::remove(dir_ / "b.yaml");
  EXPECT_EQ(Poll(), "a.yaml=a2 b.yaml- c.yaml=c2");
}

TEST_F(Directory, AFileOverTheSizeBoundIsAnErrorAndOneAtTheBoundIsNot) {
  Write(dir_ / "a.yaml", "");
  Write(dir_ / "b.yaml", "");
  fs::resize_file(dir_ / "a.yaml", DirectorySource::kMaxFileBytes + 1);
  fs::resize_file(dir_ / "b.yaml", DirectorySource::kMaxFileBytes);
  Open();
  const auto changes = source_->InitialScan();
  ASSERT_TRUE(changes.ok());
  ASSERT_EQ(changes->size(), 2U);
  ASSERT_TRUE(changes->at(0).error);
  EXPECT_NE(changes->at(0).error->find("16 MiB"), std::string::npos);
  EXPECT_TRUE(changes->at(1).text);
}

TEST_F(Directory, AFifoIsAnErrorAndHoldsNobodyUp) {
  ASSERT_EQ(::mkfifo((dir_ / "a.yaml").c_str(), 0600), 0);
  Open();
  EXPECT_EQ(Poll(), "a.yaml!");
}

TEST_F(Directory, OneThatIsSwappedForAnotherIsComparedWithIt) {
  Write(dir_ / "a.yaml", "1");
  Write(dir_ / "b.yaml", "2");
  Open();
  Poll();
  const fs::path next = root_ / "next";
  fs::create_directory(next);
  Write(next / "a.yaml", "new");
  fs::rename(dir_, root_ / "old");
  fs::rename(next, dir_);
  EXPECT_EQ(Poll(), "a.yaml=new b.yaml-");
  Write(dir_ / "c.yaml", "3");
  EXPECT_EQ(Poll(), "c.yaml=3");
  Write(root_ / "old" / "d.yaml", "not here");
  EXPECT_EQ(Poll(), "");
}

TEST_F(Directory, WhatItHeldStandsWhileItIsMovedAway) {
  Write(dir_ / "a.yaml", "1");
  Write(dir_ / "b.yaml", "2");
  Open();
  Poll();
  fs::rename(dir_, root_ / "away");
  EXPECT_EQ(Poll(), "error");
  EXPECT_EQ(Poll(), "");
  fs::remove(root_ / "away" / "b.yaml");
  EXPECT_EQ(Poll(), "");
  fs::rename(root_ / "away", dir_);
  EXPECT_TRUE(Readable());
  EXPECT_EQ(Poll(), "a.yaml=1 b.yaml-");
}

TEST_F(Directory, DeletingItDeletesItsFilesAndANewOneCounts) {
  Write(dir_ / "a.yaml", "1");
  Open();
  Poll();
  fs::remove_all(dir_);
  EXPECT_EQ(Poll(), "a.yaml-");
  EXPECT_TRUE(Readable());
  EXPECT_EQ(Poll(), "error");
  fs::create_directory(dir_);
  Write(dir_ / "b.yaml", "2");
  EXPECT_EQ(Poll(), "b.yaml=2");
}

TEST_F(Directory, ALinkToADirectoryMayBePointedElsewhere) {
  fs::create_directory(root_ / "v1");
  fs::create_directory(root_ / "v2");
  Write(root_ / "v1" / "a.yaml", "1");
  Write(root_ / "v2" / "a.yaml", "2");
  fs::remove(dir_);
  fs::create_symlink("v1", dir_);
  Open();
  EXPECT_EQ(Poll(), "a.yaml=1");
  fs::create_symlink("v2", root_ / "tmp");
  fs::rename(root_ / "tmp", dir_);
  EXPECT_EQ(Poll(), "a.yaml=2");
}

// More events than the kernel keeps (fs.inotify.max_queued_events); the queue must be full while nobody reads.
TEST_F(Directory, AnOverflowOfTheQueueLosesNothing) {
  int queued = 16384;
  std::ifstream("/proc/sys/fs/inotify/max_queued_events") >> queued;
  if (queued > 200000) GTEST_SKIP() << "the queue of this machine is too long to fill it: " << queued;
  Open();
  Poll();
  Write(dir_ / "a.yaml", "1");
  Write(dir_ / "b.yaml", "1");
  Poll();
  // Two names in turn, or the kernel would merge equal events.
  for (int i = 0; i < queued / 2 + 2; ++i) {
    ::close(::open((dir_ / "x").c_str(), O_CREAT | O_WRONLY, 0600));
    ::close(::open((dir_ / "y").c_str(), O_CREAT | O_WRONLY, 0600));
  }
  fs::remove(dir_ / "a.yaml");
  Write(dir_ / "b.yaml", "2");
  Write(dir_ / "c.yaml", "3");
  EXPECT_EQ(Poll(), "a.yaml- b.yaml=2 c.yaml=3");
}

// Every text that is seen was whole at some time, and the last one is seen.
TEST_F(Directory, AFastWriterIsNeverSeenHalfway) {
  Open();
  Poll();
  constexpr int kVersions = 500;
  std::thread writer([this] {
    for (int i = 1; i <= kVersions; ++i) {
      std::ofstream file(dir_ / "a.yaml");
      const std::string line = std::to_string(i) + "\n";
      for (int part = 0; part < 50; ++part) file << line << std::flush;
    }
  });
  const std::string last = std::to_string(kVersions) + "\n";
  std::string text;
  while (!text.starts_with(last) && Readable(5000)) {
    auto changes = source_->Poll();
    ASSERT_TRUE(changes.ok());
    for (const Change& change : *changes) {
      ASSERT_TRUE(change.text);
      text = *change.text;
      const std::string line = text.substr(0, text.find('\n') + 1);
      EXPECT_EQ(text.size(), line.size() * 50) << "version " << line;
    }
  }
  EXPECT_TRUE(text.starts_with(last));
  writer.join();
}

}  // namespace
}  // namespace egress::source
