#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "tools/bench/results.hh"

namespace burin::tools::bench {

namespace {

using nlohmann::ordered_json;

constexpr std::string_view schema = "burin-bench/1";
// More than any run makes; what is read may be anybody's.
constexpr std::size_t most_entries = 1000, most_text = 4096, most_columns = 32;

[[noreturn]] void refuse(const std::string& why) {
    throw std::runtime_error("not results of burin bench: " + why);
}

ordered_json number(double value) {
    return std::isfinite(value) ? ordered_json(value) : ordered_json(nullptr);
}

const ordered_json& member(const ordered_json& of, const char* name) {
    if (!of.is_object() || !of.contains(name)) refuse(std::string("'") + name + "' is missing");
    return of[name];
}

std::string text_of(const ordered_json& of, const char* name) {
    const ordered_json& value = member(of, name);
    if (!value.is_string() || value.get_ref<const std::string&>().size() > most_text)
        refuse(std::string("'") + name + "' is no text, or a very long one");
    return value.get<std::string>();
}

double number_of(const ordered_json& value, const char* name) {
    if (!value.is_number() || !std::isfinite(value.get<double>()) || value.get<double>() < 0)
        refuse(std::string("'") + name + "' has something that is no number from 0 on");
    return value.get<double>();
}

const ordered_json& list_of(const ordered_json& of, const char* name,
                            std::size_t most = most_entries) {
    const ordered_json& value = member(of, name);
    if (!value.is_array() || value.size() > most)
        refuse(std::string("'") + name + "' is no list, or a very long one");
    return value;
}

row row_from(const ordered_json& from, const results& so_far) {
    row made{text_of(from, "group"), text_of(from, "id"),  text_of(from, "title"),
             text_of(from, "unit"),  text_of(from, "end"), {}};
    const ordered_json& columns = list_of(from, "samples");
    if (columns.size() != so_far.columns.size()) refuse("a row has not one entry a column");
    for (const ordered_json& pairs : columns) {
        if (!pairs.is_array() || pairs.size() != so_far.pairs)
            refuse("a row has not one sample a pair");
        std::vector<double>& into = made.samples.emplace_back();
        for (const ordered_json& value : pairs)
            into.push_back(value.is_null() ? std::numeric_limits<double>::quiet_NaN()
                                           : number_of(value, "samples"));
    }
    return made;
}

curve curve_from(const ordered_json& from, const results& so_far) {
    curve made{text_of(from, "id"), text_of(from, "title"), {}};
    const ordered_json& lines = list_of(from, "lines");
    if (lines.size() != so_far.columns.size()) refuse("a curve has not one line a column");
    for (const ordered_json& line : lines) {
        curve::line& into = made.lines.emplace_back();
        into.count =
            static_cast<std::size_t>(std::min(number_of(member(line, "count"), "count"), 1e15));
        for (const ordered_json& point : list_of(line, "points")) {
            const curve_point told{number_of(member(point, "share"), "share"),
                                   number_of(member(point, "us"), "us"),
                                   number_of(member(point, "least"), "least"),
                                   number_of(member(point, "most"), "most")};
            if (told.share < 0.5 || told.share >= 1 ||
                (!into.points.empty() && told.share <= into.points.back().share))
                refuse("the shares of a curve do not rise from 0.5 to below 1");
            into.points.push_back(told);
        }
    }
    return made;
}

}  // namespace

std::string to_json(const results& all) {
    ordered_json out;
    out["schema"] = schema;
    ordered_json conditions = ordered_json::object();
    for (const auto& [name, value] : all.conditions) conditions[name] = value;
    out["conditions"] = std::move(conditions);
    out["seconds"] = number(all.seconds);
    out["pairs"] = all.pairs;
    out["cut_short"] = all.cut_short;
    out["columns"] = ordered_json::array();
    for (const column& c : all.columns)
        out["columns"].push_back({{"name", c.name}, {"reference", c.reference}, {"ends", c.ends}});
    out["rows"] = ordered_json::array();
    for (const row& r : all.rows) {
        ordered_json samples = ordered_json::array();
        for (const std::vector<double>& pairs : r.samples) {
            ordered_json values = ordered_json::array();
            for (const double value : pairs) values.push_back(number(value));
            samples.push_back(std::move(values));
        }
        out["rows"].push_back({{"group", r.group},
                               {"id", r.id},
                               {"title", r.title},
                               {"unit", r.unit},
                               {"end", r.end},
                               {"samples", std::move(samples)}});
    }
    out["curves"] = ordered_json::array();
    for (const curve& c : all.curves) {
        ordered_json lines = ordered_json::array();
        for (const curve::line& line : c.lines) {
            ordered_json points = ordered_json::array();
            for (const curve_point& p : line.points)
                points.push_back({{"share", number(p.share)},
                                  {"us", number(p.pooled)},
                                  {"least", number(p.least)},
                                  {"most", number(p.most)}});
            lines.push_back({{"count", line.count}, {"points", std::move(points)}});
        }
        out["curves"].push_back({{"id", c.id}, {"title", c.title}, {"lines", std::move(lines)}});
    }
    // Names and conditions may be any bytes: what is not UTF-8 is replaced.
    return out.dump(1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

results from_json(std::string_view text) {
    ordered_json in = ordered_json::parse(text, nullptr, false);
    if (in.is_discarded()) refuse("this is not JSON");
    if (text_of(in, "schema") != schema) refuse("'schema' is not " + std::string(schema));
    results all;
    const ordered_json& conditions = member(in, "conditions");
    if (!conditions.is_object() || conditions.size() > most_entries)
        refuse("'conditions' is no object, or a very large one");
    for (const auto& [name, value] : conditions.items())
        all.conditions.emplace_back(name, text_of(conditions, name.c_str()));
    all.seconds = number_of(member(in, "seconds"), "seconds");
    const double pairs = number_of(member(in, "pairs"), "pairs");
    if (pairs > most_entries) refuse("there are too many pairs");
    all.pairs = static_cast<unsigned>(pairs);
    all.cut_short = text_of(in, "cut_short");
    for (const ordered_json& from : list_of(in, "columns", most_columns)) {
        column& c = all.columns.emplace_back();
        c.name = text_of(from, "name");
        const ordered_json& reference = member(from, "reference");
        if (!reference.is_boolean()) refuse("'reference' is neither true nor false");
        c.reference = reference.get<bool>();
        for (const ordered_json& end : list_of(from, "ends")) {
            if (!end.is_string()) refuse("'ends' has something that is no text");
            c.ends.push_back(end.get<std::string>());
        }
    }
    for (const ordered_json& from : list_of(in, "rows")) all.rows.push_back(row_from(from, all));
    for (const ordered_json& from : list_of(in, "curves"))
        all.curves.push_back(curve_from(from, all));
    return all;
}

}  // namespace burin::tools::bench
