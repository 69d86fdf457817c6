#include "core/engine/socket_keeper.hh"

#include <linux/capability.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

#include "core/engine/privileges.hh"

namespace burin::engine {

socket_keeper::socket_keeper(const char* thread_name, task what) : _task(std::move(what)) {
    _thread = std::thread([this, thread_name] { run(thread_name); });
    std::unique_lock held(_lock);
    _done.wait(held, [this] { return _started; });
}

socket_keeper::~socket_keeper() {
    {
        std::lock_guard held(_lock);
        _stopping = true;
    }
    _asked.notify_one();
    _thread.join();
}

int socket_keeper::prepare(int descriptor) {
    if (!_works) return EPERM;
    std::lock_guard alone(_callers);
    std::unique_lock held(_lock);
    _descriptor = descriptor;
    _asked.notify_one();
    _done.wait(held, [this] { return _descriptor < 0; });
    return _answer;
}

void socket_keeper::run(const char* thread_name) {
    pthread_setname_np(pthread_self(), thread_name);
    const int own = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    // The capability counts in the first user namespace alone.
    bool works =
        drop_privileges({CAP_NET_ADMIN}, privilege_stage::final).empty() && own >= 0 && _task(own);
    if (own >= 0) ::close(own);
    if (!works) (void)drop_privileges({}, privilege_stage::final);
    std::unique_lock held(_lock);
    _works = works;
    _started = true;
    _done.notify_all();
    while (true) {
        _asked.wait(held, [this] { return _stopping || _descriptor >= 0; });
        if (_stopping) return;
        _answer = _task(_descriptor) ? 0 : errno;
        _descriptor = -1;
        _done.notify_all();
    }
}

}  // namespace burin::engine
