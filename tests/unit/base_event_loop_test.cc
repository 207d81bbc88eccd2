#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <array>
#include <string>
#include <thread>
#include <vector>

#include "agent/base/event_loop.h"
#include "agent/base/fd.h"

namespace egress {
namespace {

using std::chrono::milliseconds;

class Loop : public testing::Test {
 protected:
  Loop() : loop_(EventLoop::Create().value()) {}

  // Runs the loop, but no longer than the deadline of a test that has gone wrong.
  void RunWithDeadline() {
    const auto deadline = loop_.After(milliseconds(5000), [this] {
      ADD_FAILURE() << "the loop was not stopped";
      loop_.Stop();
    });
    loop_.Run();
    loop_.Cancel(deadline);
  }

  static Fd ReadyFd() { return Fd(::eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC)); }

  EventLoop loop_;
};

TEST_F(Loop, CallsBackWhenAnFdIsReadable) {
  const Fd fd = ReadyFd();
  std::uint32_t seen = 0;
  ASSERT_TRUE(loop_
                  .Watch(fd.get(), EPOLLIN,
                         [&](std::uint32_t events) {
                           seen = events;
                           loop_.Stop();
                         })
                  .ok());
  RunWithDeadline();
  EXPECT_EQ(seen, std::uint32_t{EPOLLIN});
}

TEST_F(Loop, WatchingTheSameFdTwiceIsAnError) {
  const Fd fd = ReadyFd();
  ASSERT_TRUE(loop_.Watch(fd.get(), EPOLLIN, [](std::uint32_t) {}).ok());
  EXPECT_FALSE(loop_.Watch(fd.get(), EPOLLIN, [](std::uint32_t) {}).ok());
  loop_.Unwatch(fd.get());
  EXPECT_TRUE(loop_.Watch(fd.get(), EPOLLIN, [](std::uint32_t) {}).ok());
}

TEST_F(Loop, WatchingAFileThatCannotBePolledIsAnError) {
  EXPECT_FALSE(loop_.Watch(-1, EPOLLIN, [](std::uint32_t) {}).ok());
  EXPECT_FALSE(loop_.Modify(-1, EPOLLIN).ok());
}

TEST_F(Loop, ModifyChangesWhatIsWaitedFor) {
  const Fd fd = ReadyFd();
  std::uint32_t seen = 0;
  ASSERT_TRUE(loop_
                  .Watch(fd.get(), 0,
                         [&](std::uint32_t events) {
                           seen = events;
                           loop_.Stop();
                         })
                  .ok());
  loop_.After(milliseconds(1), [&] { EXPECT_TRUE(loop_.Modify(fd.get(), EPOLLOUT).ok()); });
  RunWithDeadline();
  EXPECT_EQ(seen, std::uint32_t{EPOLLOUT});
}

TEST_F(Loop, ACallbackMayUnwatchItself) {
  const Fd fd = ReadyFd();
  const std::string owned(1000, 'x');  // freed with the callback: a sanitizer sees a use after it
  int calls = 0;
  ASSERT_TRUE(loop_
                  .Watch(fd.get(), EPOLLIN,
                         [&, owned](std::uint32_t) {
                           loop_.Unwatch(fd.get());
                           calls += static_cast<int>(owned.size() / 1000);
                         })
                  .ok());
  loop_.After(milliseconds(5), [&] { loop_.Stop(); });
  RunWithDeadline();
  EXPECT_EQ(calls, 1);
}

// Both are ready in one batch; whoever comes first closes the other, whose number goes to a third.
TEST_F(Loop, AnEventOfAClosedFdDoesNotReachTheOneThatGotItsNumber) {
  std::array<Fd, 2> fds = {ReadyFd(), ReadyFd()};
  int calls = 0;
  bool third_called = false;
  const Fd quiet(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(loop_
                    .Watch(fds[i].get(), EPOLLIN,
                           [&, i](std::uint32_t) {
                             ++calls;
                             const int other = fds[1 - i].get();
                             loop_.Unwatch(fds[i].get());
                             loop_.Unwatch(other);
                             ASSERT_EQ(::dup2(quiet.get(), other), other);
                             ASSERT_TRUE(loop_.Watch(other, EPOLLIN, [&](std::uint32_t) { third_called = true; }).ok());
                             loop_.After(milliseconds(5), [&] { loop_.Stop(); });
                           })
                    .ok());
  }
  RunWithDeadline();
  EXPECT_EQ(calls, 1);
  EXPECT_FALSE(third_called);
}

TEST_F(Loop, TimersRunInTheOrderInWhichTheyAreDue) {
  std::vector<int> order;
  loop_.After(milliseconds(20), [&] {
    order.push_back(3);
    loop_.Stop();
  });
  loop_.After(milliseconds(10), [&] { order.push_back(2); });
  loop_.After(milliseconds(0), [&] { order.push_back(1); });
  RunWithDeadline();
  EXPECT_EQ(order, (std::vector<int>{1, 2, 3}));
}

TEST_F(Loop, ATimerIsNeverEarly) {
  const auto start = std::chrono::steady_clock::now();
  loop_.After(milliseconds(15), [&] { loop_.Stop(); });
  RunWithDeadline();
  EXPECT_GE(std::chrono::steady_clock::now() - start, milliseconds(15));
}

TEST_F(Loop, ACancelledTimerDoesNotRunAndAFiredOneCanBeCancelled) {
  bool cancelled_ran = false;
  const auto cancelled = loop_.After(milliseconds(1), [&] { cancelled_ran = true; });
  const auto fired = loop_.After(milliseconds(0), [&] { loop_.Cancel(cancelled); });
  loop_.After(milliseconds(10), [&] {
    loop_.Cancel(fired);
    loop_.Stop();
  });
  RunWithDeadline();
  EXPECT_FALSE(cancelled_ran);
}

TEST_F(Loop, ATimerThatStartsItselfAgainDoesNotStarveTheFds) {
  const Fd fd = ReadyFd();
  std::function<void()> again = [&] { loop_.After(milliseconds(0), again); };
  again();
  ASSERT_TRUE(loop_.Watch(fd.get(), EPOLLIN, [&](std::uint32_t) { loop_.Stop(); }).ok());
  RunWithDeadline();
}

TEST_F(Loop, PostsOfOtherThreadsRunInTheLoopsThreadInOrder) {
  std::vector<int> seen;
  const auto self = std::this_thread::get_id();
  std::thread other([&] {
    for (int i = 0; i < 1000; ++i) {
      loop_.Post([&, i] {
        EXPECT_EQ(std::this_thread::get_id(), self);
        seen.push_back(i);
      });
    }
    loop_.Post([&] { loop_.Stop(); });
  });
  RunWithDeadline();
  other.join();
  ASSERT_EQ(seen.size(), 1000U);
  EXPECT_TRUE(std::is_sorted(seen.begin(), seen.end()));
}

TEST_F(Loop, CanBeStoppedBeforeItRunsAndRunAgain) {
  loop_.Stop();
  loop_.Run();
  bool ran = false;
  loop_.Post([&] {
    ran = true;
    loop_.Stop();
  });
  RunWithDeadline();
  EXPECT_TRUE(ran);
}

}  // namespace
}  // namespace egress
