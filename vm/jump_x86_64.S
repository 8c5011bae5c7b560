/*
 * jump_x86_64.S: setjmp and longjmp for the Lua inside the command.
 *
 * Lua enters and leaves every coroutine, and raises every error, through this pair.  The C
 * library's does more than Lua needs: it mangles addresses, asks for cleanup handlers of
 * threads, and checks that it goes up one and the same stack.  The linker puts these in the
 * place of the library's (the Makefile's JUMPS); a jump buffer never leaves Lua's own frames.
 *
 * Liblua's code follows this file's in the command, so that its place in cache lines does not
 * change with the size of ours: a queue's items were measured up to 8 % apart.
 */
#if defined(__x86_64__)
  .text

/* int _setjmp(jmp_buf): registers that a callee preserves, stack pointer, place to return to. */
  .globl __wrap__setjmp
  .hidden __wrap__setjmp
  .type __wrap__setjmp, @function
  .align 64
__wrap__setjmp:
  .cfi_startproc
  endbr64
  movq (%rsp), %rdx
  leaq 8(%rsp), %rcx
  movq %rbx, (%rdi)
  movq %rbp, 8(%rdi)
  movq %r12, 16(%rdi)
  movq %r13, 24(%rdi)
  movq %r14, 32(%rdi)
  movq %r15, 40(%rdi)
  movq %rcx, 48(%rdi)
  movq %rdx, 56(%rdi)
  xorl %eax, %eax
  ret
  .cfi_endproc
  .size __wrap__setjmp, .-__wrap__setjmp

/* void __longjmp_chk(jmp_buf, int): _longjmp as fortified code calls it. */
  .globl __wrap___longjmp_chk
  .hidden __wrap___longjmp_chk
  .globl __wrap__longjmp
  .hidden __wrap__longjmp
  .type __wrap___longjmp_chk, @function
  .align 16
__wrap___longjmp_chk:
__wrap__longjmp:
  .cfi_startproc
  endbr64
  movl %esi, %eax
  movq (%rdi), %rbx
  movq 8(%rdi), %rbp
  movq 16(%rdi), %r12
  movq 24(%rdi), %r13
  movq 32(%rdi), %r14
  movq 40(%rdi), %r15
  movq 48(%rdi), %rsp
  notrack jmp *56(%rdi)
  .cfi_endproc
  .size __wrap___longjmp_chk, .-__wrap___longjmp_chk

  .section .note.gnu.property, "a"
  .align 8
  .long 4, 16, 5
  .asciz "GNU"
  .long 0xc0000002, 4, 1, 0 /* this file is ready for indirect branch tracking */
#endif
  .section .note.GNU-stack, "", @progbits
