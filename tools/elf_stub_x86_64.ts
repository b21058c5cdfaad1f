/**
 * elf_stub_x86_64.S, assembled (a test assembles it again and compares).
 *
 * @module
 */

// as elf_stub_x86_64.S -o stub.o && objcopy -O binary -j .text stub.o stub.bin && base64 -w 112 stub.bin
const ASSEMBLED =
  "SYnUSI0dHgIAAEyNayhMi3MIQYB9AAB0L0yJ7UyJ7+huAQAASYn/6GYBAABJif1Iie9Mif66AQAAAEL/FDOFwA+FWAEAAOvKSf/FvgsAAABIjT17" +
  "AQAAuD8BAAAPBYP46nUR98YIAAAAD4QvAQAAg/YI69yFwA+IIgEAAEGJxonHvgYEAAC6AwAAALhIAAAADwWFwA+IBAEAAInFRIn3uAMAAAAPBUiL" +
  "cxBIAd5Mi3MYie9MifK4AQAAAA8FSIXAD47YAAAASAHGSSnGdeOJ774JBAAAug8AAAC4SAAAAA8FMf++ABAAALoDAAAAQboiAAAAScfA/////0Ux" +
  "ybgJAAAADwVIPQDw//8Ph44AAABIjbj/DwAAiei5CgAAADHS9/GDwjBI/8+IF4XAdfBIiwWVAAAASIlH+EiLBYIAAABIiUfyTI1/8kyLUyBIixQk" +
  "SIt0JAhKjQTVAAAAAEgpxEwB0kiJFCRIiXQkCEiNdCQQTInvSf/KdA5IiT5Ig8YI6A0AAADr7UyJPkyJ4kgDG//jMcBIx8H/////8q7DvwIAAABI" +
  "jTU0AAAAukcAAAC4AQAAAA8FvwEAAAC45wAAAA8FL3Byb2Mvc2VzZWxmL2ZkL3NoaW02LWFnZW50AHNoaW02LWFnZW50OiB0aGUga2VybmVsIHJl" +
  "ZnVzZWQgdGhlIG1lbW9yeSBmaWxlIHRoYXQgaG9sZHMgdGhlIHByb2dyYW0KDx8A";

/** The octets of the stub; its parameters follow directly. */
export const STUB_X86_64: Uint8Array<ArrayBuffer> = Uint8Array.from(atob(ASSEMBLED), (char) => char.charCodeAt(0));
