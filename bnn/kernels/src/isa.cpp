// The kernels for one instruction set: compiled once for each, with BNN_ISA its name.
#include "api.h"
#include "elementwise.h"
#include "gather.h"
#include "ivon.h"
#include "random.h"
#include "sampled.h"
#include "sparse.h"
#include "weight_gradient.h"
#include "winograd.h"

#define BNN_TEXT_(x) #x
#define BNN_TEXT(x) BNN_TEXT_(x)

namespace bnn {
extern const Kernels BNN_TABLE;
const Kernels BNN_TABLE = {
    BNN_TEXT(BNN_ISA),       BNN_ISA::kPanelWidth,
    BNN_ISA::kGradientWidth, BNN_ISA::kLargeOutputs,
    BNN_ISA::gather,         BNN_ISA::weight_gradient,
    BNN_ISA::panel_floats,   BNN_ISA::winograd_panel,
    BNN_ISA::winograd,       BNN_ISA::winograd_gradient,
    BNN_ISA::normals,        BNN_ISA::random_signs,
    BNN_ISA::perturb,        BNN_ISA::sample,
    BNN_ISA::sampled,        BNN_ISA::sparse,
    BNN_ISA::chain,          BNN_ISA::adam,
    BNN_ISA::rmsprop,        BNN_ISA::ivon_sample,
    BNN_ISA::ivon_product,   BNN_ISA::ivon,
};
}  // namespace bnn
