"""Loops, classes and units read out of machine code: small texts written by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from algo.errors import LiftError
from gpu import control_flow, machine_code, opcodes
from gpu.control_flow import parse_amdgcn, parse_sass
from gpu.job import Work


def sass(*lines):
    """A listing as nvdisasm prints it: labels as they are, instructions with addresses."""
    text, at = ['\t.section\t.text.k,"ax",@progbits', "k:", ".text.k:"], 0
    for line in lines:
        if line.endswith(":"):
            text.append(line)
        else:
            text.append(f"        /*{at:04x}*/                   {line} ;")
            at += 16
    return "\n".join(text)


def amd(*lines):
    """A listing as LLVM prints it."""
    body = [line if line.endswith(":") else f"\t{line}" for line in lines]
    head = ["\t.text", "\t.type\tk,@function", "k:                  ; @k", ".Lfunc_begin0:"]
    tail = [".Lfunc_end0:", "\t.size\tk, .Lfunc_end0-k", "\t.amdhsa_next_free_vgpr 12"]
    return "\n".join([*head, *body, *tail])


def steady(*lines, stores=False):
    text = sass(*lines) if lines[0][0].isupper() or lines[0][0] == "@" else amd(*lines)
    parse = parse_sass if "/*0000*/" in text else parse_amdgcn
    return machine_code.steady_loop(parse(text), stores)


PADDING = (".L_x_9:", "BRA `(.L_x_9)", "NOP", "NOP")


def test_one_loop_without_what_is_around_it():
    found = steady(
        "S2R R0, SR_TID.X",
        ".L_x_0:",
        "LDG.E.128 R4, desc[UR4][R2.64]",
        "IMMA.16832.S8.S8.SAT R8, R4.ROW, R6.COL, R8",
        "UIADD3 UR4, UR4, 0x1, URZ",
        "@!P0 BRA `(.L_x_0)",
        "STG.E desc[UR4][R2.64], R8",
        "EXIT",
        *PADDING,
    )
    assert (found.loop, found.loops, found.nested) == (True, 1, 0)
    assert machine_code.count(found).classes == {
        "tensor": 1, "global": 1, "control": 1, "uniform": 1
    }  # fmt: skip
    assert machine_code.count(found).issued == 4


def test_the_loop_with_the_tensor_instructions_wins_over_a_longer_one():
    found = steady(
        "MOV R1, R2",
        ".L_x_0:",
        *["IADD3 R1, R1, R2, R3"] * 9,
        "@P0 BRA `(.L_x_0)",
        ".L_x_1:",
        "IGMMA.64x16x32.S8.S8 R24, R88, gdesc[UR16], R24",
        "@P1 BRA `(.L_x_1)",
        "EXIT",
        *PADDING,
    )
    assert (found.loop, found.loops) == (True, 2)
    assert [i.opcode.split(".")[0] for i in found.own] == ["IGMMA", "BRA"]


def test_nested_loops_count_as_often_as_they_turn():
    lines = (
        "MOV R1, R2",
        ".L_x_0:",
        *["LOP3.LUT R1, R2, R3, RZ, 0xc0, !PT"] * 5,
        ".L_x_1:",
        "LDS R4, [R5]",
        "FADD R4, R4, R5",
        "@P1 BRA `(.L_x_1)",
        "STG.E.U16 desc[UR4][R2.64], R8",
        "@P0 BRA `(.L_x_0)",
        "EXIT",
        *PADDING,
    )
    found = steady(*lines)
    assert (found.loop, found.loops, found.nested) == (True, 2, 1)
    assert machine_code.count(found).classes == {
        "alu": 5, "float": 1, "global": 1, "shared": 1, "control": 2
    }  # fmt: skip
    assert machine_code.count(found, nested_trips=3).classes == {
        "alu": 5, "float": 3, "global": 1, "shared": 3, "control": 4
    }  # fmt: skip


def test_a_nested_loop_with_the_tensor_instructions_is_the_loop():
    """A persistent kernel: tiles outside, K inside."""
    found = steady(
        "MOV R1, R2",
        ".L_x_0:",
        *["IMAD R1, R2, R3, R4"] * 9,
        ".L_x_1:",
        "HMMA.16816.F32 R4, R8, R10, R4",
        "@P1 BRA `(.L_x_1)",
        "STG.E desc[UR4][R2.64], R8",
        "BRA `(.L_x_0)",
        *PADDING,
    )
    assert (found.loop, found.loops, found.nested) == (True, 2, 0)
    assert len(found.own) == 2


def test_a_loop_that_waits_counts_once_and_is_no_nested_work():
    found = steady(
        "MOV R1, R2",
        ".L_x_0:",
        ".L_x_1:",
        "IADD3 R9, R9, R9, R9",
        ".L_x_2:",
        "SYNCS.PHASECHK.TRANS64.TRYWAIT P1, [R4+URZ], R5",
        "@!P1 BRA `(.L_x_2)",
        "UTCIMMA tmem[UR34], gdesc[UR42], tmem[UR17], tmem[UR4], idesc[UR5], UPT",
        "BRA.U UP0, `(.L_x_0)",
        "EXIT",
    )
    assert (found.loops, found.nested, found.inner) == (2, 0, ())
    assert machine_code.count(found).classes == {"tensor": 1, "alu": 1, "control": 3}


def test_without_a_loop_the_body_is_counted_up_to_what_is_never_reached():
    found = steady("S2R R0, SR_TID.X", "@P0 EXIT", "DADD R4, R6, R8", "EXIT", *PADDING)
    assert (found.loop, found.loops) == (False, 0)
    assert machine_code.count(found).classes == {"double": 1, "control": 2, "special": 1}


def test_two_loops_of_like_work_are_no_steady_loop():
    def two(second):
        return steady(
            "MOV R1, R2",
            ".L_x_0:",
            *["LDG.E R1, desc[UR4][R2.64]"] * 9,
            "@P0 BRA `(.L_x_0)",
            ".L_x_1:",
            *["LDS R1, [R2]"] * second,
            "@P1 BRA `(.L_x_1)",
            "EXIT",
        )

    found = two(8)
    assert (found.loop, found.loops, found.nested) == (False, 2, 2)
    assert len(found.own) == 2
    assert len(found.inner) == 19
    assert two(2).loop


def test_tensor_instructions_outside_of_loops_are_the_work():
    found = steady(
        "IMMA.16832.S8.S8 R8, R4.ROW, R6.COL, R8",
        ".L_x_0:",
        *["IADD3 R1, R1, R2, R3"] * 9,
        "@P0 BRA `(.L_x_0)",
        "EXIT",
    )
    assert (found.loop, found.loops) == (False, 1)


def test_where_the_work_is_stored_a_loop_that_stores_nothing_is_not_the_one():
    lines = (
        "MOV R1, R2",
        ".L_x_0:",
        "LDG.E R1, desc[UR4][R2.64]",
        "@P0 BRA `(.L_x_0)",
        "STG.E.64 desc[UR4][R2.64], R8",
        "EXIT",
    )
    assert steady(*lines).loop
    assert not steady(*lines, stores=True).loop


def test_a_loop_that_touches_no_memory_is_not_the_one():
    """A sum over the lanes of a warp, as compilers make it."""
    found = steady(
        "global_load_dword v1, v[2:3], off",
        ".LBB0_1:",
        "s_ff1_i32_b64 s5, s[0:1]",
        "v_readlane_b32 s6, v0, s5",
        "s_cbranch_scc1 .LBB0_1",
        "global_store_dword v[0:1], v2, off",
        "s_endpgm",
    )
    assert (found.loop, found.loops, found.nested) == (False, 1, 1)


def test_a_jump_out_of_a_loop_that_is_written_as_a_call():
    found = steady(
        "MOV R1, R2",
        ".L_x_2:",
        "IMMA.16832.S8.S8 R8, R4.ROW, R6.COL, R8",
        "@P0 CALL.REL.NOINC `(.L_x_1)",
        "BRA `(.L_x_2)",
        ".L_x_1:",
        "STG.E desc[UR4][R2.64], R8",
        "EXIT",
    )
    assert [i.opcode.split(".")[0] for i in found.own] == ["IMMA", "CALL", "BRA"]


def test_the_slow_path_of_warps_out_of_step_is_left_out():
    found = steady(
        "MOV R1, R2",
        ".L_x_0:",
        "BRA.DIV UR4, `(.L_x_1)",
        "SHFL.BFLY PT, R2, R2, 0x1, 0x1f",
        "STS [R3], R2",
        ".L_x_2:",
        "@P0 BRA `(.L_x_0)",
        "EXIT",
        ".L_x_1:",
        *["MOV R1, R2"] * 7,
        "BRA `(.L_x_2)",
    )
    assert machine_code.count(found).classes == {"convert": 1, "shared": 1, "control": 2}


def test_what_is_called_belongs_to_the_body():
    found = steady(
        "CALL.REL.NOINC `(.L_x_1)",
        "EXIT",
        ".L_x_1:",
        "MUFU.RCP R1, R2",
        "RET.REL.NODEC R20 `(k)",
        *PADDING,
    )
    assert machine_code.count(found).classes == {"float": 1, "control": 3}


def test_of_nested_loops_the_one_with_more_instructions_of_its_own_is_the_loop():
    def nest(outside):
        return steady(
            "MOV R1, R2",
            ".L_x_0:",
            *["IMAD R1, R2, R3, R4"] * outside,
            ".L_x_1:",
            *["LDS R1, [R2]"] * 7,
            "@P1 BRA `(.L_x_1)",
            "@P0 BRA `(.L_x_0)",
            "EXIT",
        )

    assert (nest(3).loop, nest(3).nested, len(nest(3).own)) == (True, 0, 8)
    assert (nest(9).loop, nest(9).nested, len(nest(9).own)) == (True, 1, 10)


def test_a_loop_of_one_instruction():
    (loop,) = control_flow.loops([(1,), (1, 2), ()])
    assert loop.nodes == {1}


def test_a_loop_entered_in_two_places():
    edges = [(1, 2), (2,), (1, 3), ()]
    (loop,) = control_flow.loops(edges)
    assert loop.nodes == {1, 2}
    assert loop.inner == ()


@given(st.integers(1, 5), st.integers(1, 4), st.data())
def test_loops_of_any_depth_are_found(depth, length, data):
    """`depth` loops one in the other, each with code before and after the next."""
    edges: list[tuple[int, ...]] = []
    heads, sizes = [], []
    for _ in range(depth):
        heads.append(len(edges))
        for _ in range(data.draw(st.integers(1, length))):
            edges.append((len(edges) + 1,))
    for head in reversed(heads):
        edges.append((len(edges) + 1, head))
        sizes.append(len(edges) - head)
    edges.append(())
    (outer,) = control_flow.loops(edges)
    found = outer.all()
    assert [len(loop.nodes) for loop in found] == sizes[::-1]
    assert sum(len(loop.own) for loop in found) == len(edges) - 1


def test_amd():
    found = steady(
        "s_load_dwordx2 s[2:3], s[0:1], 0x0",
        "s_branch .LBB0_2",
        ".LBB0_1:",
        "v_mfma_i32_16x16x32_i8 v[8:11], v[56:57], v[38:39], v[8:11]",
        "s_cbranch_scc0 .LBB0_3",
        ".LBB0_2:",
        "global_load_dwordx4 v[12:15], v[34:35], off",
        "s_waitcnt vmcnt(0)   ; wait",
        "ds_write_b64 v1, v[2:3] offset:8",
        "v_and_b32_e32 v1, 15, v0",
        "s_add_i32 s0, s0, 1",
        "s_branch .LBB0_1",
        ".LBB0_3:",
        "global_store_dword v[0:1], v2, off",
        "s_endpgm",
        "s_nop 0",
    )
    counts = machine_code.count(found)
    assert found.loop
    assert counts.classes == {
        "tensor": 1, "alu": 1, "global": 1, "shared": 1, "control": 3, "uniform": 1
    }  # fmt: skip
    assert counts.issued == 4  # scalar and control instructions issue beside them


def test_amd_without_a_loop():
    found = steady("v_add_f32_e32 v1, v2, v3", "s_endpgm", "s_nop 0", "v_mov_b32_e32 v1, v2")
    assert machine_code.count(found).classes == {"float": 1, "control": 1}


@pytest.mark.parametrize(
    ("opcode", "kind"),
    [
        ("QGMMA.64x16x32.F32.E4M3.E4M3", "tensor"),
        ("UTCIMMA", "tensor"),
        ("LOP3.LUT", "alu"),
        ("IMAD.MOV.U32", "alu"),
        ("HFMA2.MMA", "float"),
        ("MUFU.RCP", "float"),
        ("DFMA", "double"),
        ("PRMT", "convert"),
        ("I2FP.F32.S32", "convert"),
        ("LDGSTS.E.BYPASS.128", "global"),
        ("UTMALDG.2D", "global"),
        ("LDSM.16.M88.4", "shared"),
        ("ATOMG.E.ADD.STRONG.GPU", "atomic"),
        ("WARPGROUP.DEPBAR.LE", "control"),
        ("ULOP3.LUT", "uniform"),
        ("ULDC.64", "uniform"),
        ("VOTEU.ANY", "uniform"),
        ("CS2R", "special"),
        ("UNHEARD.OF", "other"),
        ("v_smfmac_i32_16x16x64_i8", "tensor"),
        ("v_fma_f64", "double"),
        ("v_pk_mul_f32", "float"),
        ("v_cvt_f16_f32_e32", "convert"),
        ("v_perm_b32", "convert"),
        ("v_mov_b32_dpp", "convert"),
        ("v_dot4_i32_i8", "alu"),
        ("v_lshl_add_u64", "alu"),
        ("global_atomic_add_u32", "atomic"),
        ("buffer_load_dword", "global"),
        ("buffer_wbl2", "control"),
        ("ds_bpermute_b32", "convert"),
        ("ds_read_b64", "shared"),
        ("ds_add_u32", "atomic"),
        ("s_cbranch_vccnz", "control"),
        ("s_mul_i32", "uniform"),
        ("x_unheard", "other"),
    ],
)
def test_classes(opcode, kind):
    assert opcodes.classify(opcode) == kind
    assert kind in opcodes.CLASSES


def test_unknown_opcodes_are_named():
    found = steady("MOV R1, R2", "FROB.X R1, R2", "FROB.Y R1", "UGLY UR1", "EXIT")
    counts = machine_code.count(found)
    assert counts.unknown == ("FROB", "UGLY")
    assert counts.classes["other"] == 3


@pytest.mark.parametrize(
    ("opcode", "macs"),
    [
        ("IMMA.16832.S8.S8.SAT", 16 * 8 * 32),
        ("HMMA.16816.F32", 16 * 8 * 16),
        ("HMMA.1688.F32.TF32", 16 * 8 * 8),
        ("IMMA.8816.S8.S8", 8 * 8 * 16),
        ("IGMMA.64x16x32.S8.S8", 64 * 16 * 32 // 4),
        ("HGMMA.64x256x16.F32", 64 * 256 * 16 // 4),
        ("v_mfma_i32_16x16x32_i8", 16 * 16 * 32),
        ("v_mfma_f32_4x4x4_16b_f16", 4 * 4 * 4 * 16),
        ("v_mfma_f32_32x32x8_f16", 32 * 32 * 8),
        ("UTCIMMA", None),
        ("IMMA.777.S8", None),
    ],
)
def test_multiply_accumulates(opcode, macs):
    assert opcodes.multiply_accumulates(opcode) == macs


@pytest.mark.parametrize(
    ("opcode", "stored", "loaded"),
    [
        ("STG.E", 4, 0),
        ("STG.E.U8", 1, 0),
        ("STG.E.U16", 2, 0),
        ("STG.E.128", 16, 0),
        ("LDG.E.S8.CONSTANT", 0, 1),
        ("LDG.E.64", 0, 8),
        ("LDG.E.LTC128B", 0, 4),
        ("LDGSTS.E.BYPASS.LTC128B.128", 0, 16),
        ("STS.128", 0, 0),
        ("global_store_byte", 1, 0),
        ("global_store_short_d16_hi", 2, 0),
        ("global_store_dwordx3", 12, 0),
        ("buffer_load_dwordx4", 0, 16),
        ("global_load_ubyte", 0, 1),
        ("global_load_sbyte_d16", 0, 1),
        ("ds_write_b64", 0, 0),
        ("s_load_dwordx8", 0, 0),
    ],
)
def test_bytes_of_global_memory(opcode, stored, loaded):
    assert (opcodes.stored_bytes(opcode), opcodes.loaded_bytes(opcode)) == (stored, loaded)


LOOP = (
    "MOV R1, R2",
    ".L_x_0:",
    "LDG.E.64 R4, desc[UR4][R2.64]",
    "IMMA.16832.S8.S8 R8, R4.ROW, R6.COL, R8",
    "IMMA.16832.S8.S8 R8, R4.ROW, R6.COL, R8",
    "STG.E.U16 desc[UR4][R2.64], R8",
    "@P0 BRA `(.L_x_0)",
    "EXIT",
)


@pytest.mark.parametrize(
    ("work", "units", "seen_in"),
    [
        (Work("bit", 1024, columns=16), 2048, "tensor"),  # 2 x 4096 x 4 warps / 16 columns
        (Work("bit", 2048, columns=16), 2048, "tensor"),
        (Work("weight", 64, stored_bytes=128), 128, "stores"),  # 2 bytes x 128 lanes
        (Work("weight", 64, loaded_bytes=512), 128, "loads"),
        (Work("value", 17), 17, "source"),
    ],
)
def test_units_of_a_trip(work, units, seen_in):
    """Whatever the compiler unrolled: the units of the machine's trip, not of the source's."""
    found = steady(*LOOP)
    done = machine_code.trip(found, work, warps=4, warp_lanes=32)
    assert done == (units, seen_in)
    per_unit = machine_code.lane_instructions(machine_code.count(found), done, 4, 32)
    assert per_unit == 5 * 128 / units


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (Work("bit", 4096, columns=16), r"multiplies what 0\.5 trips .* 4096 bits; correct"),
        (Work("bit", 1500, columns=16), r"multiplies what 1\.36533 trips"),
        (Work("weight", 64, stored_bytes=100), r"stores what 2\.56 trips .* 64 weights"),
        (Work("value", 64, loaded_bytes=2048), r"loads what 0\.5 trips .* 64 values"),
        (Work("value", 64, stored_bytes=128), r"stores what 0 trips"),
    ],
)
def test_a_job_that_the_machine_code_contradicts(work, message):
    lines = LOOP if "stores what 0" not in message else LOOP[:5] + LOOP[6:]
    with pytest.raises(LiftError, match=message):
        machine_code.trip(steady(*lines), work, warps=4, warp_lanes=32)


def test_where_the_shape_is_hidden_the_loads_tell():
    found = steady(
        "MOV R1, R2",
        ".L_x_0:",
        "LDG.E.128 R4, desc[UR4][R2.64]",
        "UTCIMMA tmem[UR34], gdesc[UR42], tmem[UR17], tmem[UR4], idesc[UR5], UPT",
        "@P0 BRA `(.L_x_0)",
        "EXIT",
    )
    work = Work("bit", 512, columns=16, loaded_bytes=1024)
    assert machine_code.trip(found, work, 4, 32) == (1024, "loads")


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (parse_sass, "", "the disassembly holds no instructions"),
        (parse_sass, sass("EXIT") + "\n" + sass("EXIT"), "several functions; inline"),
        (parse_amdgcn, amd(), "no finished function"),
        (parse_amdgcn, "k:\n\ts_endpgm\n", "no finished function"),
        (parse_amdgcn, amd("s_endpgm") + "\ng:\n\ts_endpgm\n.Lfunc_end1:", "several functions"),
    ],
)
def test_what_cannot_be_read_is_refused(parse, text, message):
    with pytest.raises(LiftError, match=message):
        parse(text)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("BRA `(.L_x_7)", "EXIT"), r"jumps to '\.L_x_7', which it does not hold"),
        (("BRX R2 -0x120", "EXIT"), "a jump names no label: BRX R2 -0x120"),
        (("s_branch .LBB0_7", "s_endpgm"), r"jumps to '\.LBB0_7'"),
    ],
)
def test_a_jump_to_nowhere_is_refused(lines, message):
    with pytest.raises(LiftError, match=message):
        steady(*lines)


def test_a_jump_by_table_goes_to_all_that_it_names():
    found = steady(
        'BRX R2 -0x120 (*"BRANCH_TARGETS .L_x_1,.L_x_2"*)',
        ".L_x_1:",
        "EXIT",
        ".L_x_2:",
        "FADD R1, R2, R3",
        "EXIT",
    )
    assert machine_code.count(found).classes == {"float": 1, "control": 3}
