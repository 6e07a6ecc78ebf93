// One step of a smooth network along the first order in a: sums that need no outputs before, so a
// chunk of neurons is packed, summed and written by one thread while it is near. What is in panels
// is a chunk a thread, not the network.
#pragma once

#include <algorithm>
#include <vector>

#include "featcore/activation.hpp"
#include "featcore/inputs.hpp"
#include "featcore/layer_move.hpp"
#include "featcore/panel_products.hpp"
#include "featcore/panels.hpp"
#include "featcore/parallel.hpp"
#include "featcore/partition.hpp"

namespace featcore {

// Whether neurons alone are enough to share among threads, and samples need not be cut.
template <class T>
bool smooth_step_pays(Activation activation, Index n, Index d, Index m) {
  return !activation.by_sign() && Partition<T>(n, d, m).sample_groups.pieces() == 1;
}

// out = the rows of W, (m, d), moved along a_j sum_i r_i sigma'(z_ij) x_i.
template <class T>
void smooth_step(const NetworkView<T>& net, Activation activation, Index n, const T* x, const T* r,
                 const LayerMove<T>& move, const Team& whole_team, T* out) {
  const double work = kernel_flops(n, net.d, net.m);
  const Team team = whole_team.for_work(work);
  team.monitor().stage(1, work / team.threads());
  constexpr Index kPanel = PanelShape<T>::kPanel;
  const Partition<T> cut(n, net.d, net.m);
  const Cut& tiles = cut.sample_tiles;
  const PackedInputs<T> packed(x, net.d, tiles, true, team);
  struct Scratch {
    Buffer<T> W, sums, weighted, inputs;
  };
  const Index together = panels_together(net.d);
  // Short enough, too, for who waits for a stop.
  const Index length = std::min(cut.panel_chunks.length,
                                net.d > kBlockInputs ? together : Partition<T>::near(net.d));
  const Index chunk_neurons = length * kPanel;
  std::vector<Scratch> scratches(static_cast<std::size_t>(team.threads()));
  for (Scratch& scratch : scratches) {  // here, where one that does not fit ends it all
    scratch.W = Buffer<T>::unset(chunk_neurons * net.d);
    scratch.sums = Buffer<T>::unset(chunk_neurons * net.d);
    scratch.weighted = Buffer<T>(together * tiles.length * kPanel);
  }
  team.for_each(ceil_div(net.m, chunk_neurons), [&](Index chunk, const Worker& worker) {
    const Index first_neuron = chunk * chunk_neurons;
    const PanelShape<T> shape{std::min(chunk_neurons, net.m - first_neuron), net.d};
    Scratch& scratch = scratches[static_cast<std::size_t>(worker.id)];
    const T* W = scratch.W.data();
    T* h = scratch.sums.data();
    Panels<T>::pack(shape, net.W + first_neuron * net.d, scratch.W.data());
    std::fill_n(h, shape.panels() * shape.stride(), T(0));
    for (Index s = 0; s < tiles.pieces(); ++s) {
      const Index first = tiles.begin(s);
      const Index samples = tiles.end(s) - first;
      const T* inputs = packed.tile(first, samples, scratch.inputs);
      for (Index p = 0; p < shape.panels(); p += together) {
        const Index last = std::min(p + together, shape.panels());
        if (worker.stop(kernel_flops(samples, net.d, (last - p) * kPanel))) return;
        T* tile = scratch.weighted.data();
        panel_products(shape, W, p, last, x + first * net.d, samples, tile);
        for (Index q = p; q < last; ++q)
          for (Index i = 0; i < samples; ++i, tile += kPanel) {
            T value[kPanel];  // nobody asks for it
            activate<T>(activation, tile, value, tile, kPanel);
            for (Index l = 0; l < kPanel; ++l) tile[l] *= r[first + i];
          }
        panel_sums(shape, p, last, inputs, samples, scratch.weighted.data(), h);
      }
    }
    for (Index p = 0; p < shape.panels(); ++p) {
      alignas(64) T a[kPanel] = {};
      std::copy_n(net.a + first_neuron + p * kPanel, shape.neurons(p), a);
      move.weights(net.d, W + p * shape.stride(), a, h + p * shape.stride());
    }
    Panels<T>::rows(shape, h, out + first_neuron * net.d);
  });
}

}  // namespace featcore
