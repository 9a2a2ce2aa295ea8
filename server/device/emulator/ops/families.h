// The families of instructions, one function per file of this folder. Each adds its opcodes to the table.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_OPS_FAMILIES_H_
#define TRUN_SERVER_DEVICE_EMULATOR_OPS_FAMILIES_H_

#include "server/device/emulator/program/form.h"

namespace trun::device {

struct Warp;

void RegisterArithmetic(FamilyTable* table);  // arithmetic.cc: add … of all types
void RegisterLogic(FamilyTable* table);       // logic.cc: and, shl, lop3, bfe, prmt …
void RegisterSelection(FamilyTable* table);   // selection.cc: setp, selp, set, slct, testp …
void RegisterMovement(FamilyTable* table);    // movement.cc: mov, cvta, isspacep, ld, st, prefetch …
void RegisterConversion(FamilyTable* table);  // conversion.cc: cvt
void RegisterAtomics(FamilyTable* table);     // atomics.cc: atom, red, fence, membar
void RegisterWarp(FamilyTable* table);  // warp_collectives.cc: shfl, vote, match, redux, activemask, elect
void RegisterBarriers(FamilyTable* table);   // barriers.cc: bar, barrier, griddepcontrol, nanosleep …
void RegisterMatrix(FamilyTable* table);     // matrix.cc: mma, ldmatrix, stmatrix, movmatrix
void RegisterWmma(FamilyTable* table);       // wmma.cc: wmma
void RegisterAsyncCopy(FamilyTable* table);  // async_copy.cc: cp.async

// Parts of cp that have files of their own: after cp.async and cp.reduce.async.
Operation DecodeBulkCopy(Form& form, bool reduce);  // async/bulk_copy_decode.cc
Operation DecodeCopyArrive(Form& form);             // async/mbarrier_ops.cc: .mbarrier.arrive

// Makes the warp's cp.async copies that are still under way (late_async): before what they have to precede.
void CompleteAsyncCopies(Warp& warp);

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_OPS_FAMILIES_H_
