// From samples to what a person reads and what a program reads: medians in a table, everything in
// JSON.
#pragma once

#include <algorithm>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "bench/scaling_tunnel.hh"

namespace scaling {

struct measured {
    way what;
    direction where;
    unsigned flows = 1;
    plan places;
    std::vector<sample> samples;

    template <class Value>
    double median(Value value) const {
        std::vector<double> all;
        for (const sample& one : samples) all.push_back(value(one));
        if (all.empty()) return 0;
        std::sort(all.begin(), all.end());
        const std::size_t middle = all.size() / 2;
        return all.size() % 2 == 1 ? all[middle] : (all[middle - 1] + all[middle]) / 2;
    }
    double gbit() const {
        return median([](const sample& s) { return s.gbit; });
    }
    double per_cpu() const {
        return median([](const sample& s) { return s.per_cpu(); });
    }
    long messages() const {
        long sum = 0;
        for (const sample& s : samples) sum += s.messages;
        return sum;
    }
    double counted_gb() const {
        double sum = 0;
        for (const sample& s : samples) sum += s.counted_gb;
        return sum;
    }
};

class report {
  public:
    // Room for a row; what was asked for first stands first.
    measured& row(way w, direction d, unsigned flows, const plan& places) {
        for (measured& known : _rows)
            if (known.what == w && known.where == d && known.flows == flows &&
                known.places.workers == places.workers)
                return known;
        return _rows.emplace_back(measured{w, d, flows, places, {}});
    }
    void note(const std::string& text) { _notes.push_back(text); }

    // Rows of several workers whose load generator was nearly always busy, in words.
    std::vector<std::string> rows_with_load_above(double share) const {
        std::vector<std::string> found;
        for (const measured* m : ordered())
            if (m->what != way::direct && m->places.pinned && !m->places.overlap &&
                m->places.workers > 1 &&
                m->median([](const sample& s) { return s.load_busy; }) > share)
                found.push_back(fmt::format("{} workers an end, {}, {} flows {}", m->places.workers,
                                            name_of(m->what), m->flows, name_of(m->where)));
        return found;
    }

    std::string table() const {
        std::string text =
            "| way | flows | direction | workers an end | Gbit/s | range | of linear | Gbit per "
            "CPU-s | busy: client, server, load | messages from other threads | in GB |\n"
            "| --- | ---: | --- | ---: | ---: | --- | ---: | ---: | --- | ---: | ---: |\n";
        for (const measured* m : ordered()) {
            auto [least, most] = std::minmax_element(
                m->samples.begin(), m->samples.end(),
                [](const sample& a, const sample& b) { return a.gbit < b.gbit; });
            const bool through = m->what != way::direct;
            text += fmt::format(
                "| {} | {} | {} | {} | {:.2f} | {:.2f}-{:.2f} | {} | {} | {} | {} | {} |\n",
                name_of(m->what), m->flows, name_of(m->where), workers_text(*m), m->gbit(),
                least->gbit, most->gbit, through ? linear_text(*m) : "-",
                through ? fmt::format("{:.2f}", m->per_cpu()) : "-", busy_text(*m),
                through ? std::to_string(m->messages()) : "-",
                through ? fmt::format("{:.1f}", m->counted_gb()) : "-");
        }
        for (const std::string& note : _notes) text += "\n" + note + "\n";
        return text;
    }

    nlohmann::json json(const nlohmann::json& conditions) const {
        nlohmann::json rows = nlohmann::json::array();
        for (const measured* m : ordered()) {
            nlohmann::json samples = nlohmann::json::array();
            for (const sample& s : m->samples)
                samples.push_back({{"gbit_per_second", s.gbit},
                                   {"seconds", s.seconds},
                                   {"bytes", s.bytes},
                                   {"cpu_seconds", s.cpu},
                                   {"load_cpu_seconds", s.load_cpu},
                                   {"client_busy", s.client_busy},
                                   {"server_busy", s.server_busy},
                                   {"load_busy", s.load_busy},
                                   {"messages", s.messages},
                                   {"messages_counted_over_gb", s.counted_gb}});
            nlohmann::json row{{"way", name_of(m->what)},
                               {"flows", m->flows},
                               {"direction", name_of(m->where)},
                               {"workers", m->places.workers},
                               {"pinned", m->places.pinned},
                               {"overlap", m->places.overlap},
                               {"client_cpus", m->places.client},
                               {"server_cpus", m->places.server},
                               {"load_cpus", m->places.load},
                               {"gbit_per_second", m->gbit()},
                               {"samples", samples}};
            if (m->what != way::direct) {
                row["gbit_per_cpu_second"] = m->per_cpu();
                row["messages"] = m->messages();
                if (auto share = linear(*m)) row["share_of_linear"] = *share;
            }
            rows.push_back(std::move(row));
        }
        return {{"conditions", conditions}, {"rows", rows}, {"notes", _notes}};
    }

  private:
    std::vector<const measured*> ordered() const {
        std::vector<const measured*> all;
        for (const measured& m : _rows)
            if (!m.samples.empty()) all.push_back(&m);
        std::stable_sort(all.begin(), all.end(), [](const measured* a, const measured* b) {
            const auto key = [](const measured* m) {
                return std::tuple(m->what, -static_cast<long>(m->flows), m->where,
                                  m->places.workers);
            };
            return key(a) < key(b);
        });
        return all;
    }
    // Of N times what one worker an end reached; fewer flows than workers occupy only some.
    std::optional<double> linear(const measured& m) const {
        if (m.flows < m.places.workers) return {};
        for (const measured& one : _rows)
            if (one.what == m.what && one.where == m.where && one.flows == m.flows &&
                one.places.workers == 1 && !one.samples.empty() && one.gbit() > 0)
                return m.gbit() / (one.gbit() * m.places.workers);
        return {};
    }
    std::string linear_text(const measured& m) const {
        const auto share = linear(m);
        if (m.places.workers == 1 || !share) return "-";
        return fmt::format("{:.0f} %", *share * 100);
    }
    static std::string workers_text(const measured& m) {
        if (m.what == way::direct) return "-";
        return std::to_string(m.places.workers) + (!m.places.pinned   ? " (not pinned)"
                                                   : m.places.overlap ? " (overlap)"
                                                                      : "");
    }
    static std::string busy_text(const measured& m) {
        if (!m.places.pinned) return "-";
        const auto percent = [&](auto value) { return m.median(value) * 100; };
        const double load = percent([](const sample& s) { return s.load_busy; });
        if (m.what == way::direct) return fmt::format("{:.0f} %", load);
        return fmt::format("{:.0f} %, {:.0f} %, {:.0f} %",
                           percent([](const sample& s) { return s.client_busy; }),
                           percent([](const sample& s) { return s.server_busy; }), load);
    }

    std::vector<measured> _rows;
    std::vector<std::string> _notes;
};

}  // namespace scaling
