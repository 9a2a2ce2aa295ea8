"""Public names of Triton's languages, all versions together. Written by generate_names.py; do not edit."""

from __future__ import annotations

NAMES: dict[str, str] = {
    "triton.experimental.gluon": (
        "GluonASTSource GluonJITFunction aggregate amd constexpr_function jit language must_use_result nvidia "
    ),
    "triton.experimental.gluon.amd": ("cdna5 gfx1250 "),
    "triton.experimental.gluon.amd.cdna5": (
        "PaddedSharedLayout PartitionedSharedLayout SwizzledSharedLayout TensorDescriptor validate_block_shape "
    ),
    "triton.experimental.gluon.amd.gfx1250": (
        "PaddedSharedLayout PartitionedSharedLayout SwizzledSharedLayout TensorDescriptor validate_block_shape "
    ),
    "triton.experimental.gluon.language": (
        "AutoLayout BlockedLayout CachePolicy CoalescedLayout DistributedLinearLayout DotOperandLayout "
        "NVMMADistributedLayout NVMMASharedLayout PaddedSharedLayout SharedLinearLayout SliceLayout "
        "SwizzledSharedLayout abs add aggregate_replace allocate_shared_memory amd arange "
        "associative_scan assume atomic_add atomic_and atomic_cas atomic_load atomic_max atomic_min "
        "atomic_or atomic_poll atomic_store atomic_xchg atomic_xor bank_conflicts barrier base_type "
        "base_value bfloat16 block_type broadcast cast cdiv ceil clamp constexpr convert_layout cos "
        "cumprod cumsum device_assert device_print distributed_type div_rn dot_fma dtype erf exp exp2 "
        "expand_dims expect_zero extra fdiv float16 float32 float64 float8e4b15 float8e4b8 float8e4nv "
        "float8e5 float8e5b16 floor fma fp4_to_fp fpsan full full_like gather histogram inline_asm "
        "inline_asm_elementwise int1 int16 int32 int64 int8 join load log log2 map_elementwise max "
        "max_constancy max_contiguous maximum min minimum mul multiple_of num_ctas num_programs num_warps "
        "nvidia permute pointer_type program_id ravel reduce reduce_or reshape rsqrt set_auto_layout "
        "shared_memory_descriptor shared_memory_descriptor_type sin split sqrt sqrt_rn static_assert "
        "static_print static_range store sub sum tensor thread_barrier to_linear_layout to_tensor tuple "
        "tuple_type uint16 uint32 uint64 uint8 umulhi void warp_specialize where xor_sum zeros zeros_like "
    ),
    "triton.experimental.gluon.language.amd": (
        "AMDMFMALayout AMDWMMALayout builtin cdna3 cdna4 cdna5 gfx1250 hint rdna3 rdna4 slice "
        "warp_pipeline warp_pipeline_stage "
    ),
    "triton.experimental.gluon.language.amd.cdna3": (
        "AMDMFMALayout TYPE_CHECKING bfloat16 buffer_atomic_add buffer_atomic_and buffer_atomic_max "
        "buffer_atomic_min buffer_atomic_or buffer_atomic_xchg buffer_atomic_xor buffer_load buffer_store "
        "builtin get_scaled_upcast_fp4_scale_layout int8 mfma scaled_upcast ttgl uint16 uint8 "
    ),
    "triton.experimental.gluon.language.amd.cdna4": (
        "AMDMFMALayout DotOperandLayout async_copy buffer_atomic_add buffer_atomic_and buffer_atomic_max "
        "buffer_atomic_min buffer_atomic_or buffer_atomic_xchg buffer_atomic_xor buffer_load buffer_store "
        "builtin compute_efficient_padded_shared_layout constexpr_function float32 get_mfma_scale_layout "
        "get_scaled_upcast_fp4_scale_layout int8 load_shared_fp4_repacked mfma mfma_scaled "
        "scaled_downcast scaled_upcast ttgl uint8 "
    ),
    "triton.experimental.gluon.language.amd.cdna4.async_copy": (
        "BlockedLayout DistributedLayout SliceLayout async_wait buffer_load_to_shared builtin "
        "commit_group global_load_to_shared load_shared_relaxed wait_group "
    ),
    "triton.experimental.gluon.language.amd.cdna5": (
        "AMDWMMALayout PartitionedSharedLayout async_copy buffer_load buffer_store builtin cluster "
        "constexpr_function float8e4nv get_scaled_upcast_fp4_scale_layout get_wmma_scale_layout int32 "
        "int8 load_shared_fp4_repacked make_partitioned_dot_layouts mbarrier scaled_downcast "
        "scaled_upcast tdm tensor uint8 wmma wmma_scaled "
    ),
    "triton.experimental.gluon.language.amd.cdna5.async_copy": (
        "DistributedLayout builtin commit_group global_to_shared mbarrier_arrive shared_to_global wait_group "
    ),
    "triton.experimental.gluon.language.amd.cdna5.cluster": ("arrive builtin wait "),
    "triton.experimental.gluon.language.amd.cdna5.mbarrier": (
        "MBarrierLayout SwizzledSharedLayout arrive builtin init ttgl wait "
    ),
    "triton.experimental.gluon.language.amd.cdna5.tdm": (
        "PaddedSharedLayout PartitionedSharedLayout SwizzledSharedLayout TYPE_CHECKING async_gather "
        "async_load async_load_fused async_scatter async_store async_wait builtin make_tensor_descriptor "
        "prefetch tensor_descriptor tensor_descriptor_type ttgl update_tensor_descriptor "
    ),
    "triton.experimental.gluon.language.amd.gfx1250": (
        "AMDWMMALayout PartitionedSharedLayout async_copy buffer_load buffer_store builtin cluster "
        "constexpr_function float8e4nv get_scaled_upcast_fp4_scale_layout get_wmma_scale_layout int32 "
        "int8 load_shared_fp4_repacked make_partitioned_dot_layouts mbarrier scaled_downcast "
        "scaled_upcast tdm tensor uint8 wmma wmma_scaled "
    ),
    "triton.experimental.gluon.language.amd.gfx1250.async_copy": (
        "DistributedLayout builtin commit_group global_to_shared mbarrier_arrive shared_to_global wait_group "
    ),
    "triton.experimental.gluon.language.amd.gfx1250.cluster": ("arrive builtin wait "),
    "triton.experimental.gluon.language.amd.gfx1250.mbarrier": (
        "MBarrierLayout SwizzledSharedLayout arrive builtin init ttgl wait "
    ),
    "triton.experimental.gluon.language.amd.gfx1250.tdm": (
        "PaddedSharedLayout PartitionedSharedLayout SwizzledSharedLayout TYPE_CHECKING async_gather "
        "async_load async_scatter async_store async_wait builtin make_tensor_descriptor prefetch "
        "tensor_descriptor tensor_descriptor_type ttgl update_tensor_descriptor "
    ),
    "triton.experimental.gluon.language.amd.hint": ("builtin sched_barrier "),
    "triton.experimental.gluon.language.amd.rdna3": ("builtin wmma "),
    "triton.experimental.gluon.language.amd.rdna4": ("builtin wmma "),
    "triton.experimental.gluon.language.amd.slice": ("builtin slice ttgl "),
    "triton.experimental.gluon.language.amd.warp_pipeline": ("warp_pipeline_stage "),
    "triton.experimental.gluon.language.extra": ("libdevice "),
    "triton.experimental.gluon.language.fpsan": ("builtin dtype embed tensor unembed "),
    "triton.experimental.gluon.language.nvidia": ("ampere blackwell hopper rubin "),
    "triton.experimental.gluon.language.nvidia.ampere": (
        "CachePolicy DotOperandLayout FractionalEvictionPolicy NVMMADistributedLayout async_copy builtin "
        "constexpr_type mbarrier mma_v2 ttgl "
    ),
    "triton.experimental.gluon.language.nvidia.ampere.async_copy": (
        "async_copy_global_to_shared async_load builtin commit_group mbarrier_arrive wait_group "
    ),
    "triton.experimental.gluon.language.nvidia.ampere.mbarrier": (
        "MBarrierLayout SwizzledSharedLayout allocate_mbarrier arrive builtin constexpr_function init "
        "invalidate jit ttgl wait "
    ),
    "triton.experimental.gluon.language.nvidia.blackwell": (
        "BlockedLayout CachePolicy FractionalEvictionPolicy SharedLinearLayout TYPE_CHECKING "
        "TensorMemoryLayout TensorMemoryScalesLayout add2 allocate_tensor_memory async_copy async_store "
        "base_type base_value builtin clc cluster constexpr_function fence_async_shared fma2 "
        "get_tmem_32x32b_reg_layout get_tmem_reg_layout max2 mbarrier min2 mma_v2 mul2 sub2 "
        "tcgen05_commit tcgen05_copy tcgen05_mma tcgen05_mma_barrier_count tcgen05_mma_scaled "
        "tensor_memory_descriptor tensor_memory_descriptor_type tma ttgl "
    ),
    "triton.experimental.gluon.language.nvidia.blackwell.clc": (
        "TYPE_CHECKING base_type base_value builtin clc_result clc_result_type gl load_result "
        "shared_memory_descriptor tensor try_cancel "
    ),
    "triton.experimental.gluon.language.nvidia.blackwell.float2": (
        "Float2Tensor aggregate constexpr_function fma full_like jit pack pack2 stdlib ttgl unpack unpack2 "
    ),
    "triton.experimental.gluon.language.nvidia.blackwell.tma": (
        "async_atomic_add async_atomic_and async_atomic_max async_atomic_min async_atomic_or "
        "async_atomic_xor async_copy_global_to_shared async_copy_shared_to_global async_gather async_load "
        "async_load_im2col async_scatter async_store builtin make_tensor_descriptor store_wait "
        "tensor_descriptor tensor_descriptor_type ttgl "
    ),
    "triton.experimental.gluon.language.nvidia.hopper": (
        "CachePolicy FractionalEvictionPolicy TYPE_CHECKING async_copy async_store cluster "
        "fence_async_shared mbarrier mma_v2 tma unflatten_ir_values warpgroup_mma "
        "warpgroup_mma_accumulator warpgroup_mma_accumulator_type warpgroup_mma_init warpgroup_mma_wait "
    ),
    "triton.experimental.gluon.language.nvidia.hopper.cluster": ("arrive barrier builtin wait "),
    "triton.experimental.gluon.language.nvidia.hopper.mbarrier": (
        "MBarrierLayout SwizzledSharedLayout allocate_mbarrier arrive builtin cluster expect "
        "fence_init_release_cluster init invalidate jit sync_cluster_init wait "
    ),
    "triton.experimental.gluon.language.nvidia.hopper.tma": (
        "CachePolicy NVMMASharedLayout TYPE_CHECKING async_atomic_add async_atomic_and async_atomic_max "
        "async_atomic_min async_atomic_or async_atomic_xor async_copy_global_to_shared "
        "async_copy_global_to_shared_im2col async_copy_shared_to_global async_load async_load_im2col "
        "async_store base_type base_value builtin make_tensor_descriptor store_wait tensor_descriptor "
        "tensor_descriptor_im2col tensor_descriptor_im2col_type tensor_descriptor_type ttgl "
    ),
    "triton.experimental.gluon.language.nvidia.rubin": (
        "CachePolicy FractionalEvictionPolicy TensorMemoryLayout TensorMemoryScalesLayout add2 add4 "
        "allocate_tensor_memory async_copy async_store builtin clc cluster fence_async_shared fma2 fma4 "
        "max2 mbarrier min2 mma_v2 mul2 mul4 sub2 sub4 tcgen05_commit tcgen05_copy tcgen05_mma "
        "tcgen05_mma_barrier_count tcgen05_mma_scaled tensor_memory_descriptor "
        "tensor_memory_descriptor_type tma "
    ),
    "triton.experimental.gluon.language.nvidia.rubin.mbarrier": (
        "MBarrierLayout allocate_mbarrier arrive builtin expect fence_init_release_cluster init invalidate wait "
    ),
    "triton.experimental.gluon.nvidia": ("blackwell hopper "),
    "triton.experimental.gluon.nvidia.blackwell": ("TensorDescriptor "),
    "triton.experimental.gluon.nvidia.hopper": (
        "NVMMASharedLayout TensorDescriptor TensorDescriptorIm2Col canonicalize_dtype "
        "get_primitive_bitwidth tl validate_block_shape "
    ),
    "triton.language": (
        "PropagateNan TRITON_MAX_TENSOR_NUMEL _experimental_descriptor_load "
        "_experimental_descriptor_store _experimental_make_tensor_descriptor "
        "_experimental_reinterpret_tensor_descriptor _experimental_tensor_descriptor abs add advance "
        "aggregate_replace arange argmax argmin associative_scan assume async_task atomic_add atomic_and "
        "atomic_cas atomic_load atomic_max atomic_min atomic_or atomic_poll atomic_store atomic_xchg "
        "atomic_xor bfloat16 bitonic_merge block_type broadcast broadcast_to cast cat cdiv ceil clamp "
        "condition const const_pointer_type constexpr constexpr_function constexpr_type core cos cumprod "
        "cumsum debug_barrier device_assert device_print div_rn dot dot_scaled dtype erf exp exp2 "
        "expand_dims expect_zero extra fdiv flip float16 float32 float64 float8e4b15 float8e4b8 "
        "float8e4nv float8e5 float8e5b16 floor fma full function_type gather histogram "
        "inline_asm_elementwise int1 int16 int32 int64 int8 interleave join load load_tensor_descriptor "
        "log log2 make_block_ptr make_tensor_descriptor map_elementwise math max max_constancy "
        "max_contiguous maximum min minimum mul multiple_of num_programs nv_tma_desc_type "
        "pair_uniform_to_normal permute philox philox_impl pi32_t pointer_type program_id rand rand4x "
        "randint randint4x randn randn4x random range ravel reduce reduce_or reshape rsqrt semantic "
        "sigmoid sin slice softmax sort split sqrt sqrt_rn squeeze standard static_assert static_print "
        "static_range store store_tensor_descriptor str_to_ty sub sum swizzle2d target_info tensor "
        "tensor_descriptor tensor_descriptor_type to_tensor topk trans tuple tuple_type uint16 uint32 "
        "uint64 uint8 uint_to_uniform_float umulhi unsqueeze view void where xor_sum zeros zeros_like "
    ),
    "triton.language.core": (
        "CAT_CAN_REORDER_WARNING CONSTEXPR_0 JITCallable JITFunction PropagateNan "
        "RESHAPE_CAN_REORDER_WARNING T TRITON_BUILTIN TRITON_MAX_TENSOR_NUMEL TYPE_CHECKING "
        "_experimental_descriptor_load _experimental_descriptor_store "
        "_experimental_make_tensor_descriptor _experimental_reinterpret_tensor_descriptor "
        "_experimental_tensor_descriptor _experimental_tensor_descriptor_base add advance "
        "aggregate_replace arange associative_scan assume async_task atomic_add atomic_and atomic_cas "
        "atomic_load atomic_max atomic_min atomic_or atomic_poll atomic_store atomic_xchg atomic_xor "
        "base_type base_value bfloat16 binary_op_type_legalization block_type broadcast broadcast_to "
        "builtin builtin_max builtin_min cast cat check_bit_width clamp condition const "
        "const_pointer_type constexpr constexpr_function constexpr_type dataclass_transform debug_barrier "
        "device_assert device_print dispatch dot dot_scaled dtype expand_dims expect_zero extern "
        "extern_elementwise float16 float32 float64 float8e4b15 float8e4b8 float8e4nv float8e5 "
        "float8e5b16 full function_type gather get_bool_env_var get_int_dtype get_primitive_bitwidth "
        "histogram inline_asm_elementwise int1 int16 int32 int64 int8 is_builtin is_enabled "
        "is_negative_zero item jit join load load_tensor_descriptor make_block_ptr make_tensor_descriptor "
        "map_elementwise max_constancy max_contiguous maximum minimum mul multiple_of must_use_result "
        "num_programs nv_tma_desc_type permute pi32_t pointer_type program_id range reduce reshape "
        "semantic slice slice_type split static_assert static_print static_range store "
        "store_tensor_descriptor sub tensor tensor_descriptor tensor_descriptor_base "
        "tensor_descriptor_base_type tensor_descriptor_type to_tensor trans tuple tuple_type uint16 "
        "uint32 uint64 uint8 validate_block_shape view void warn_once where "
    ),
    "triton.language.extra": ("cuda hip is_pkg module module_name modules "),
    "triton.language.extra.cuda": (
        "convert_custom_float8_sm70 convert_custom_float8_sm80 experimental_device_tensormap_create1d "
        "experimental_device_tensormap_create2d experimental_tensormap_fenceproxy_acquire "
        "gdc_launch_dependents gdc_wait globaltimer libdevice num_threads num_warps smid utils "
    ),
    "triton.language.extra.cuda.gdc": ("core gdc_launch_dependents gdc_wait "),
    "triton.language.extra.cuda.libdevice": (
        "abs acos acosh add_rd add_rn add_ru add_rz asin asinh atan atan2 atanh brev byte_perm cbrt ceil "
        "clz copysign core cos cosh cospi cyl_bessel_i0 cyl_bessel_i1 div_rd div_rn div_ru div_rz "
        "double2float_rd double2float_rn double2float_ru double2float_rz double2hiint double2int_rd "
        "double2int_rn double2int_ru double2int_rz double2ll_rd double2ll_rn double2ll_ru double2ll_rz "
        "double2loint double2uint_rd double2uint_rn double2uint_ru double2uint_rz double2ull_rd "
        "double2ull_rn double2ull_ru double2ull_rz double_as_longlong erf erfc erfcinv erfcx erfinv exp "
        "exp10 exp2 expm1 fast_cosf fast_dividef fast_exp10f fast_expf fast_log10f fast_log2f fast_logf "
        "fast_powf fast_sinf fast_tanf fdim ffs finitef float2int_rd float2int_rn float2int_ru "
        "float2int_rz float2ll_rd float2ll_rn float2ll_ru float2ll_rz float2uint_rd float2uint_rn "
        "float2uint_ru float2uint_rz float2ull_rd float2ull_rn float2ull_ru float2ull_rz float_as_int "
        "float_as_uint floor fma fma_rd fma_rn fma_ru fma_rz fmod hadd hiloint2double hypot ilogb "
        "int2double_rn int2float_rd int2float_rn int2float_ru int2float_rz int_as_float isfinited isinf "
        "isnan j0 j1 jn ldexp lgamma ll2double_rd ll2double_rn ll2double_ru ll2double_rz ll2float_rd "
        "ll2float_rn ll2float_ru ll2float_rz llrint llround log log10 log1p log2 logb longlong_as_double "
        "mul24 mul_rd mul_rn mul_ru mul_rz mulhi nearbyint nextafter norm3d norm4d normcdf normcdfinv "
        "popc pow rcbrt rcp64h rcp_rd rcp_rn rcp_ru rcp_rz remainder rhadd rhypot rint rnorm3d rnorm4d "
        "round rsqrt rsqrt_rn sad saturatef scalbn signbit sin sinh sinpi sqrt sqrt_rd sqrt_rn sqrt_ru "
        "sqrt_rz sub_rd sub_rn sub_ru sub_rz tan tanh tgamma trunc uint2double_rn uint2float_rd "
        "uint2float_rn uint2float_ru uint2float_rz uint_as_float ull2double_rd ull2double_rn "
        "ull2double_ru ull2double_rz ull2float_rd ull2float_rn ull2float_ru ull2float_rz y0 y1 yn "
    ),
    "triton.language.extra.cuda.utils": (
        "convert_custom_float8 convert_custom_float8_sm70 convert_custom_float8_sm80 "
        "convert_float16_to_fp8e4b15 convert_fp8e4b15_to_float16 core globaltimer num_threads num_warps "
        "smid "
    ),
    "triton.language.extra.hip": ("libdevice memrealtime num_threads num_warps smid "),
    "triton.language.extra.hip.libdevice": (
        "abs acos acosh asin asinh atan atan2 atanh ceil clz copysign core cos cosh cyl_bessel_i0 "
        "cyl_bessel_i1 erf erfc erfcx erfinv exp exp2 expm1 fast_dividef fast_expf fast_tanhf finitef "
        "floor fma fmod hypot ilogb isfinited isinf isnan j0 j1 ldexp lgamma llrint log log10 log1p log2 "
        "nearbyint nextafter popc pow rint round rsqrt signbit sin sinh sqrt tan tanh trunc y0 y1 "
    ),
    "triton.language.extra.hip.utils": ("core memrealtime num_threads num_warps smid "),
    "triton.language.extra.libdevice": (
        "T abs acos acosh add_rd add_rn add_ru add_rz asin asinh atan atan2 atanh brev byte_perm cbrt "
        "ceil clz copysign core cos cosh cospi cuda_libdevice cyl_bessel_i0 cyl_bessel_i1 dispatch div_rd "
        "div_rn div_ru div_rz double2float_rd double2float_rn double2float_ru double2float_rz "
        "double2hiint double2int_rd double2int_rn double2int_ru double2int_rz double2ll_rd double2ll_rn "
        "double2ll_ru double2ll_rz double2loint double2uint_rd double2uint_rn double2uint_ru "
        "double2uint_rz double2ull_rd double2ull_rn double2ull_ru double2ull_rz double_as_longlong erf "
        "erfc erfcinv erfcx erfinv exp exp10 exp2 expm1 fast_cosf fast_dividef fast_exp10f fast_expf "
        "fast_log10f fast_log2f fast_logf fast_powf fast_sinf fast_tanf fast_tanhf fdim ffs finitef "
        "float2int_rd float2int_rn float2int_ru float2int_rz float2ll_rd float2ll_rn float2ll_ru "
        "float2ll_rz float2uint_rd float2uint_rn float2uint_ru float2uint_rz float2ull_rd float2ull_rn "
        "float2ull_ru float2ull_rz float_as_int float_as_uint floor fma fma_rd fma_rn fma_ru fma_rz fmod "
        "hadd hiloint2double hip_libdevice hypot ilogb int2double_rn int2float_rd int2float_rn "
        "int2float_ru int2float_rz int_as_float isfinited isinf isnan j0 j1 jn ldexp lgamma ll2double_rd "
        "ll2double_rn ll2double_ru ll2double_rz ll2float_rd ll2float_rn ll2float_ru ll2float_rz llrint "
        "llround log log10 log1p log2 logb longlong_as_double mul24 mul_rd mul_rn mul_ru mul_rz mulhi "
        "nearbyint nextafter norm3d norm4d normcdf normcdfinv popc pow rcbrt rcp64h rcp_rd rcp_rn rcp_ru "
        "rcp_rz remainder rhadd rhypot rint rnorm3d rnorm4d round rsqrt rsqrt_rn sad saturatef scalbn "
        "signbit sin sinh sinpi sqrt sqrt_rd sqrt_rn sqrt_ru sqrt_rz sub_rd sub_rn sub_ru sub_rz tan tanh "
        "tgamma trunc uint2double_rn uint2float_rd uint2float_rn uint2float_ru uint2float_rz "
        "uint_as_float ull2double_rd ull2double_rn ull2double_ru ull2double_rz ull2float_rd ull2float_rn "
        "ull2float_ru ull2float_rz y0 y1 yn "
    ),
    "triton.language.math": (
        "T abs ceil core cos div_rn erf exp exp2 fdiv floor fma log log2 rsqrt semantic sin sqrt sqrt_rn umulhi "
    ),
    "triton.language.random": (
        "N_ROUNDS_DEFAULT jit math pair_uniform_to_normal philox philox_impl rand rand4x randint "
        "randint4x randn randn4x tl uint_to_uniform_float "
    ),
    "triton.language.semantic": (
        "IncompatibleTypeErrorImpl T TensorTy TritonSemantic add advance and_ arange ashr "
        "associative_scan assume atom_red_typechecking_impl atomic_add atomic_and atomic_cas atomic_max "
        "atomic_min atomic_or atomic_xchg atomic_xor binary_op_sanitize_overflow_impl "
        "binary_op_type_checking_impl bitcast bitwise_op_type_checking_impl broadcast_impl_shape "
        "broadcast_impl_value cast cat check_ptr_type_impl clamp computation_type_impl debug_barrier "
        "descriptor_gather descriptor_load descriptor_scatter descriptor_store device_assert device_print "
        "dot dot_scaled driver equal expand_dims fdiv floordiv full gather greater_equal greater_than "
        "histogram integer_promote_impl invert join less_equal less_than load logical_and logical_or lshr "
        "make_block_ptr make_tensor_descriptor math max_constancy max_contiguous maximum minimum minus "
        "mod mul multiple_of not_ not_equal num_programs or_ permute plus program_id reduction "
        "reinterpret_tensor_descriptor reshape shl splat split store sub tensormap_create "
        "tensormap_fenceproxy_acquire tl to_tensor truediv validate_descriptor_block where wrap_tensor "
        "xor_ "
    ),
    "triton.language.standard": (
        "argmax argmin bitonic_merge cdiv constexpr_function core cumprod cumsum flip interleave jit math "
        "max min ravel reduce_or sigmoid softmax sort sort_impl squeeze sum swizzle2d topk unsqueeze "
        "xor_sum zeros zeros_like "
    ),
    "triton.language.target_info": (
        "constexpr_function cuda_capability_geq current_target driver is_cuda is_hip is_hip_cdna3 "
        "is_hip_cdna4 is_hip_gfx1250 "
    ),
}
