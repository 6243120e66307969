# The ops, listed once: NAME is cpu/NAME.c and cuda/NAME.cu here, and NAME.c in runtime/ops. A folder may
# have no file of that name (adamw's calls are in runtime/optim, say); one that has is built.
set(CFT_OPS_BY_DTYPE  # their cpu/NAME.c is compiled for each dtype and instruction set
  adamw attention attention_merge attention_paged cross_entropy elementwise embedding random reduce relu2
  rmsnorm rope sample softmax swiglu)
set(CFT_OPS_ANY_DTYPE  # theirs look at the dtype themselves: for each instruction set only
  cast clip rows)

# Sets `result` to the files of those ops in a folder.
function(cft_op_files result folder extension)
  set(files)
  foreach(name ${ARGN})
    if(EXISTS ${folder}/${name}.${extension})
      list(APPEND files ${folder}/${name}.${extension})
    endif()
  endforeach()
  set(${result} ${files} PARENT_SCOPE)
endfunction()
