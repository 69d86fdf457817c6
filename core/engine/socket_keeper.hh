// What only CAP_NET_ADMIN may do to a session's own TCP socket, done before it connects by a thread
// that keeps the capability when all others give it up (privileges.hh): no byte of a peer comes
// near it.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

namespace burin::engine {

class socket_keeper {
  public:
    // Sets options of a descriptor; false: the kernel refused (errno). Runs on the keeper's thread.
    using task = std::function<bool(int descriptor)>;

    // Made before the other threads have given their capabilities up. Whether it may do its task a
    // socket of its own shows; works() tells. `thread_name` has 15 characters at most.
    socket_keeper(const char* thread_name, task);
    ~socket_keeper();
    socket_keeper(const socket_keeper&) = delete;
    socket_keeper& operator=(const socket_keeper&) = delete;

    bool works() const noexcept { return _works; }
    // Any thread; waits for the keeper, some 0.1 ms: at a connect, when the caller's flows have no
    // session anyway. 0, or what the kernel refused with.
    int prepare(int descriptor);

  private:
    void run(const char* thread_name);

    const task _task;
    bool _works = false;
    std::mutex _lock;
    std::condition_variable _asked, _done;
    int _descriptor = -1;  // asked for; -1: nothing
    int _answer = 0;       // errno
    bool _started = false, _stopping = false;
    std::mutex _callers;  // one at a time
    std::thread _thread;
};

}  // namespace burin::engine
