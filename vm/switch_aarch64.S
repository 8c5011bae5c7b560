/*
 * switch_aarch64.S: void cstack_switch(void **save, void *target)
 *
 * Saves x19-x30 and d8-d15, the registers that AAPCS64 asks a callee to preserve,
 * and the floating-point control register; continues on `target`.
 */
#if defined(__aarch64__) && !defined(MOONLET_UCONTEXT)
  .text
  .globl cstack_switch
  .hidden cstack_switch
  .type cstack_switch, %function
  .align 4
cstack_switch:
  .cfi_startproc
  hint #34 /* bti c */
  sub sp, sp, #176
  .cfi_adjust_cfa_offset 176
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  .cfi_rel_offset x29, 80
  .cfi_rel_offset x30, 88
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mrs x9, fpcr
  str x9, [sp, #160]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldr x9, [sp, #160]
  msr fpcr, x9
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #176
  .cfi_adjust_cfa_offset -176
  br x30
  .cfi_endproc
  .size cstack_switch, .-cstack_switch

/* The first frame of a fresh stack: x19 holds the function, x20 its argument. */
  .globl cstack_entry
  .hidden cstack_entry
  .type cstack_entry, %function
  .align 4
cstack_entry:
  .cfi_startproc
  .cfi_undefined x30
  hint #36 /* bti j */
  mov x29, #0
  mov x30, #0
  mov x0, x20
  blr x19
  brk #1
  .cfi_endproc
  .size cstack_entry, .-cstack_entry
#endif
  .section .note.GNU-stack, "", %progbits
