// The processors of this machine, and who runs on which of them while workers are added.
//
// Workers take processors in the order of cores: those of one core (hyper-threads) stand next to
// each other, and worker i of the client and worker i of the server are neighbours. So a core is
// shared by the two ends of one session or not at all, whatever the number of workers, and what is
// left has no core in common with a worker but where the number is odd. The load generator runs on
// what is left.
#pragma once

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "core/engine/processors.hh"

namespace scaling {

// What ends a run, in words for a person.
struct trouble : std::runtime_error {
    using std::runtime_error::runtime_error;
};

using processors = std::vector<unsigned>;

struct processor {
    unsigned number = 0;
    int package = 0, core = 0;
};

inline int topology_number(unsigned cpu, const char* name, int otherwise) {
    std::ifstream file("/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/" + name);
    int value = otherwise;
    return file >> value ? value : otherwise;
}

// Those of `usable`, neighbours on a core next to each other. Where the kernel does not tell, each
// is taken for a core of its own.
inline std::vector<processor> by_core(const processors& usable) {
    std::vector<processor> all;
    for (unsigned cpu : usable)
        all.push_back({cpu, topology_number(cpu, "physical_package_id", 0),
                       topology_number(cpu, "core_id", static_cast<int>(cpu))});
    std::sort(all.begin(), all.end(), [](const processor& a, const processor& b) {
        return std::tie(a.package, a.core, a.number) < std::tie(b.package, b.core, b.number);
    });
    return all;
}

inline std::size_t cores_of(const std::vector<processor>& all) {
    std::size_t count = 0;
    for (std::size_t i = 0; i < all.size(); ++i)
        count += i == 0 || all[i].core != all[i - 1].core || all[i].package != all[i - 1].package;
    return count;
}

// Who runs where, for one number of workers an end.
struct plan {
    unsigned workers = 1;
    bool pinned = false;   // false: wherever the kernel puts them, all lists are empty
    bool overlap = false;  // pinned, but ends and load share processors
    processors client, server, load;
};

enum class where_too_few { anywhere, overlap };

inline plan place(unsigned workers, const std::vector<processor>& all,
                  where_too_few otherwise = where_too_few::anywhere) {
    plan made{workers, all.size() >= std::size_t{3} * workers, false, {}, {}, {}};
    if (!made.pinned) {
        if (otherwise == where_too_few::anywhere || all.size() < workers) return made;
        made.pinned = made.overlap = true;
        for (const processor& p : all) made.load.push_back(p.number);
        made.client.assign(made.load.begin(), made.load.begin() + workers);
        made.server.assign(made.load.rbegin(), made.load.rbegin() + workers);
        return made;
    }
    for (std::size_t i = 0; i < all.size(); ++i) {
        const unsigned cpu = all[i].number;
        (i >= 2 * std::size_t{workers} ? made.load
         : i % 2 == 0                  ? made.client
                                       : made.server)
            .push_back(cpu);
    }
    return made;
}

// 1, 2, 4 ... and the most that leaves the load generator as many processors as an end has. Where
// that is less than two, two workers an end run all the same, without places of their own.
inline std::vector<unsigned> worker_counts(std::size_t usable) {
    const unsigned most = static_cast<unsigned>(usable / 3);
    std::vector<unsigned> counts{1};
    for (unsigned count = 2; count <= most; count *= 2) counts.push_back(count);
    if (most > counts.back()) counts.push_back(most);
    if (most < 2 && usable >= 2) counts.push_back(2);
    return counts;
}

inline std::string list_text(processors list) {
    std::sort(list.begin(), list.end());
    return list.empty() ? "any" : burin::engine::processors_text(list);
}

inline std::string in_order(const processors& list) {
    std::string text;
    for (unsigned cpu : list) text += (text.empty() ? "" : ",") + std::to_string(cpu);
    return text;
}

inline std::string first_line(const std::string& path, const std::string& start = {}) {
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);)
        if (line.starts_with(start)) return line;
    return {};
}

// How long processors were busy and idle since the machine started, in clock ticks (proc(5)).
struct busy_time {
    std::uint64_t busy = 0, idle = 0;

    static busy_time of(const processors& which) {
        busy_time sum;
        std::ifstream file("/proc/stat");
        for (std::string name; file >> name;) {
            std::uint64_t field = 0;
            std::string rest;
            if (name.starts_with("cpu") && name.size() > 3 && name[3] >= '0' && name[3] <= '9') {
                const auto number = static_cast<unsigned>(std::stoul(name.substr(3)));
                const bool wanted = std::find(which.begin(), which.end(), number) != which.end();
                // user nice system idle iowait irq softirq steal
                for (int i = 0; i < 8 && file >> field; ++i)
                    if (wanted) (i == 3 || i == 4 ? sum.idle : sum.busy) += field;
            }
            std::getline(file, rest);
        }
        return sum;
    }
    // Of the time since `then`; 0 where there was none.
    double share_since(const busy_time& then) const {
        const auto all = static_cast<double>(busy - then.busy + idle - then.idle);
        return all <= 0 ? 0 : static_cast<double>(busy - then.busy) / all;
    }
};

}  // namespace scaling
