// How sums over samples that are looked up are shared out: chunks of panels, which have tables of
// their own; pieces of the inputs, which cost little, for other inputs need other tables; groups
// of samples, whose sums are added up.
#pragma once

#include <algorithm>

#include "featcore/panels.hpp"
#include "featcore/partition.hpp"

namespace featcore {

struct SumsCut {
  Cut panel_chunks;
  Cut blocks;               // of inputs
  Cut pieces;               // of blocks
  Cut groups;               // of samples
  bool as_outputs = false;  // the panels, and nothing else is cut

  SumsCut() = default;
  // Chunks of `neurons`, enough to earn the tables; blocks of at most `inputs`, of a multiple of
  // `lanes`; groups of a multiple of `samples`. `outputs`: how the forward pass is cut.
  template <class T>
  SumsCut(Index n, const PanelShape<T>& shape, Index neurons, Index inputs, Index lanes,
          Index samples, const Partition<T>& outputs)
      : blocks(shape.d, ceil_div(shape.d, inputs), lanes) {
    constexpr double kWorthCutting = 4e6;  // flops
    constexpr Index kEnoughUnits = 16;
    constexpr Index kBudget = 16 * 1024 * 1024 / static_cast<Index>(sizeof(T));
    const double work = 2.0 * static_cast<double>(n) * static_cast<double>(shape.d * shape.m);
    const Index worthwhile = static_cast<Index>(std::min(work / kWorthCutting, 1e6)) + 1;
    const Index wanted = std::min(kEnoughUnits, worthwhile);
    // A small network is cut as its outputs are: into few, which a few threads share.
    as_outputs = wanted == 1;
    panel_chunks =
        as_outputs ? outputs.panel_chunks : Cut(shape.panels(), ceil_div(shape.m, neurons), 1);
    pieces =
        Cut(blocks.pieces(), std::min(blocks.pieces(), ceil_div(wanted, panel_chunks.pieces())), 1);
    const Index units = panel_chunks.pieces() * pieces.pieces();
    const Index affordable = std::max<Index>(1, kBudget / (shape.panels() * shape.stride()));
    groups = Cut(n, std::min(ceil_div(wanted, units), affordable), samples);
  }

  Index units() const { return panel_chunks.pieces() * pieces.pieces() * groups.pieces(); }
  Index chunk(Index unit) const { return unit % panel_chunks.pieces(); }
  Index piece(Index unit) const { return unit / panel_chunks.pieces() % pieces.pieces(); }
  Index group(Index unit) const { return unit / (panel_chunks.pieces() * pieces.pieces()); }

  // Whether a unit has all of its panels' sums.
  bool whole() const { return pieces.pieces() * groups.pieces() == 1; }
};

}  // namespace featcore
