// A form: the coordinates in which a network is moved. The primal form iterates the weights; others
// may iterate what determines them. A dynamics sees only this.
#pragma once

#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "featcore/activation.hpp"
#include "featcore/parallel.hpp"
#include "featcore/signs.hpp"
#include "featcore/types.hpp"
#include "featcore/weights.hpp"

namespace featcore {

// Beyond this a weight, output or residual counts as not finite: its square, which losses and
// penalties take in double, must not overflow.
template <class T>
constexpr T largest_sound() {
  return sizeof(T) == 8 ? static_cast<T>(1e150) : std::numeric_limits<T>::max();
}

// Speed of each layer along the flow; 0 freezes it.
struct Rates {
  double W = 1;
  double a = 1;
};

struct StepInfo {
  double squared_gradient = 0;  // of the objective, over the layers that move
  bool finite = true;           // whether every new weight is
};

// A part of a form's state, as it is kept outside: the same for every instruction set.
template <class T>
struct FormArray {
  std::string name;
  Index rows = 0;
  Index columns = 0;
  std::vector<T> values;
};

template <class T>
using FormState = std::vector<FormArray<T>>;

template <class T>
class Form {
 public:
  Form() = default;
  Form(const Form&) = delete;
  Form& operator=(const Form&) = delete;
  virtual ~Form() = default;

  virtual const char* name() const = 0;

  // Of the largest loop it runs: whether threads are worth gathering.
  virtual double flops() const = 0;

  // f on the samples of split `k` at the present weights; split 0 is trained on. The pointer stays
  // valid, and its numbers until the next call for the same split. After Stopped the numbers are
  // the old ones.
  virtual const T* outputs(Index split, const Team& team) = 0;

  // Signs of the pre-activations of split `k`, as of its last outputs(); null if not kept. They may
  // be written down only now: not to be asked for in vain.
  virtual const Signs<T>* signs(Index split, const Team& team) const = 0;

  // theta <- theta + step_size * rate * (-d objective / d theta), given r = -d objective / d f as
  // of the last outputs(0). The gradient is measured only if asked. After Stopped nothing has
  // moved.
  virtual StepInfo step(const T* r, double step_size, const Rates& rates, double weight_decay,
                        bool measure, const Team& team) = 0;

  // From now on split 0 has other samples, which stay as they are until the next call. The primal
  // form can; the coordinates of others are of the samples that they began with.
  virtual void train_on(const SplitView<T>& split) = 0;

  // Takes the last step back, exactly. Once after each step at most.
  virtual void undo() = 0;

  // The present weights; valid until the next step or undo.
  virtual const Weights<T>& weights() = 0;

  // The same, laid out on the calling thread.
  NetworkView<T> network() {
    Monitor monitor;
    return weights().rows(Team(1, monitor));
  }

  // What, besides the weights, it needs to go on to the same bits.
  virtual FormState<T> state() const = 0;
};

// A form that owns the basis it was built on.
template <class T>
struct ChosenForm {
  std::vector<T> basis;
  std::unique_ptr<Form<T>> form;
};

// `wanted`: primal, gram, projected, or auto, which asks the training samples alone: what else is
// evaluated must not move the run to other bits. With a `state`, the form goes on where it was
// left; `start` has then the weights at the start of the run and the present head. Everything that
// the arguments point to must outlive the form. `fits(name, bytes)` is asked before anything large
// is made. Defined in forms.hpp.
template <class T>
ChosenForm<T> choose_form(const std::string& wanted, const NetworkView<T>& start,
                          Activation activation, const std::vector<SplitView<T>>& splits,
                          bool signs_of_all_splits, const FormState<T>* state, const Team& team,
                          const std::function<void(const std::string&, double)>& fits);

}  // namespace featcore
