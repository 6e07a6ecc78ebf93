// What is recorded, and when: observables evaluated into rows that the caller owns.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <vector>

#include "featcore/observables.hpp"

namespace featcore {

// One column of a history: row k of split s is written at out + (k * splits.size() + s) * size.
struct Column {
  ObservableRequest request;
  Index size = 1;             // numbers a split and row
  std::vector<Index> splits;  // one dummy entry if the observable is not per split
  double* out = nullptr;
};

template <class T>
class Recorder {
 public:
  // `schedule`: increasing positions (steps); `steps`, with room for schedule.size() + 1 rows as
  // every column, receives the position of each row: one more than planned, for an unplanned stop.
  Recorder(std::vector<std::int64_t> schedule, std::vector<Column> columns, std::int64_t* steps)
      : schedule_(std::move(schedule)), columns_(std::move(columns)), steps_(steps) {
    for (const Column& column : columns_)
      entries_.push_back(&find_observable<T>(column.request.name));
  }
  Recorder(const Recorder&) = delete;
  Recorder& operator=(const Recorder&) = delete;
  virtual ~Recorder() = default;

  bool due(std::int64_t position) {
    while (cursor_ < schedule_.size() && schedule_[cursor_] < position) ++cursor_;
    return cursor_ < schedule_.size() && schedule_[cursor_] == position;
  }

  bool needs_split(Index split) const {
    for (const Column& column : columns_)
      for (const Index k : column.splits)
        if (k == split) return true;
    return false;
  }

  bool needs_signs() const {
    for (const ObservableEntry<T>* entry : entries_)
      if (entry->needs_signs) return true;
    return false;
  }

  Index rows() const { return rows_; }
  bool recorded(std::int64_t position) const { return rows_ > 0 && steps_[rows_ - 1] == position; }

  // Counts the row only when all of it is written.
  void record(std::int64_t position, const Snapshot<T>& snapshot, const Team& team) {
    if (rows_ > static_cast<Index>(schedule_.size()))
      throw std::logic_error("more rows than planned");
    for (std::size_t c = 0; c < columns_.size(); ++c) {
      const Column& column = columns_[c];
      const Index splits = static_cast<Index>(column.splits.size());
      for (Index s = 0; s < splits; ++s)
        entries_[c]->evaluate(snapshot, column.request, column.splits[static_cast<std::size_t>(s)],
                              team, column.out + (rows_ * splits + s) * column.size);
    }
    on_row(rows_, position, *snapshot.weights, team);
    steps_[rows_] = position;
    ++rows_;
  }

 protected:
  // For observers outside the core; called on the thread of the run.
  virtual void on_row(Index /*row*/, std::int64_t /*position*/, const Weights<T>& /*weights*/,
                      const Team& /*team*/) {}

 private:
  std::vector<std::int64_t> schedule_;
  std::vector<Column> columns_;
  std::vector<const ObservableEntry<T>*> entries_;
  std::int64_t* steps_;
  std::size_t cursor_ = 0;
  Index rows_ = 0;
};

}  // namespace featcore
