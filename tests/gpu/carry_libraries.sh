# For scripts that pack a program for another box. carry_libraries PROGRAM FOLDER: what it loads beyond glibc.
carry_libraries() {
  ldd "$1" | awk '$2 == "=>" && $3 ~ /^\// {print $3}' | while read -r library; do
    case "$(basename "$library")" in
      ld-linux* | libc.so* | libm.so* | libpthread* | libdl.so* | librt.so* | libresolv*) ;;
      *) cp -uL "$library" "$2/" ;;
    esac
  done
}
